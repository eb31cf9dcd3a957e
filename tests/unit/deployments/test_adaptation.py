"""What the configuration says about learning, and what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from ray.exceptions import RayError

from cluster.adaptation_config import AdaptationConfig
from cluster.config import Config
from cluster.errors import ConfigError
from deployments import adaptation
from deployments.adaptation import TrainerClient, adapting_drafters, check_versions, version_folder
from tests.fakes_drafter import write_tiny_drafter
from tests.unit.deployments.replicas import tiny_config
from training.divergences import DIVERGENCES


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return tiny_config(
        tmp_path, tenants={"acme": {"adapt_drafters": True}}, adaptation={"directory": str(tmp_path / "versions")}
    )


def test_the_schema_names_the_divergences_that_there_are() -> None:
    assert set(get_args(AdaptationConfig.model_fields["divergence"].annotation)) == DIVERGENCES.keys()


def test_only_drafters_that_a_tenant_adapts_have_a_trainer(config: Config) -> None:
    assert adapting_drafters(config) == ["de"]
    assert adapting_drafters(config.model_copy(update={"tenants": {}})) == []


def test_versions_of_a_drafter_that_was_replaced_are_told_by_name(config: Config) -> None:
    check_versions(config)
    model = config.drafters["de"].model
    assert model is not None
    write_tiny_drafter(model, seed=7)

    with pytest.raises(ConfigError, match=r"adaptation\.directory: .*acme holds versions of another drafter"):
        check_versions(config)


class FakeActor:
    """Answers, or fails, as a Ray actor's handle does."""

    def __init__(self) -> None:
        self.exchange = self
        self.fails = False
        self.num_asked = 0

    async def remote(self, transcripts: object) -> dict[str, int]:
        self.num_asked += 1
        if self.fails:
            raise RayError("gone")
        return {"acme": 3}


async def test_a_trainer_that_does_not_answer_is_left_alone_for_a_while(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor, now = FakeActor(), 100.0
    monkeypatch.setattr(adaptation, "start_trainer", lambda *_: actor)
    client = TrainerClient(config, "de", clock=lambda: now)
    assert await client.exchange({}) == {"acme": 3}

    actor.fails = True
    assert await client.exchange({}) is None
    actor.fails = False
    assert await client.exchange({}) is None
    assert actor.num_asked == 2

    now += 60.0
    assert await client.exchange({}) == {"acme": 3}


def test_a_folder_that_cannot_be_written_is_told(config: Config) -> None:
    folder = version_folder(config, "de", "acme")
    folder.parent.parent.write_text("a file")

    with pytest.raises(ConfigError, match=r"adaptation\.directory: "):
        check_versions(config)
