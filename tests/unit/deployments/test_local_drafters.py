"""Drafters in the target's step that do not belong to the target are told before anything is deployed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.config import Config
from cluster.errors import ConfigError
from deployments.drafters import check_local_drafters, configured_drafter
from engine.drafters.layer_skip import LayerSkipDrafter
from engine.drafters.skip_file import ChosenSet, SkipFile
from engine.identity import target_id
from engine.skipping import SkipSet
from tests.tiny_targets import write_tiny_target


def config_of(target: Path, **skipping: str) -> Config:
    drafters = {"own": {"method": "layer_skip", **skipping}, "look": {"method": "ngram"}}
    both = {"method": "cascade", "placement": "target", "of": ("own", "look")}
    return Config.model_validate({"target": {"model": str(target)}, "drafters": drafters | {"both": both}})


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = write_tiny_target(tmp_path / "target")
    (path / "tokenizer.json").write_text("{}")
    return path


def write_sets(path: Path, target: str) -> None:
    SkipFile(target, 2, ChosenSet(SkipSet.of([1]))).write(path)


def test_a_target_without_a_file_of_sublayers_names_the_command_that_makes_it(target: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"drafters.own: .*layer_skip.json is not there; .*`polydraft tune layer-skip`"
    ):
        check_local_drafters(config_of(target))


def test_a_file_of_another_target_is_refused(target: Path) -> None:
    write_sets(target / "layer_skip.json", "0123456789abcdef")

    with pytest.raises(ConfigError, match=rf"chosen for target 0123456789abcdef, this one is {target_id(target)}"):
        check_local_drafters(config_of(target))


@pytest.mark.parametrize("named", [True, False])
def test_the_file_lies_beside_the_model_or_where_the_configuration_says(
    target: Path, tmp_path: Path, named: bool
) -> None:
    before = target_id(target)
    path = tmp_path / "elsewhere.json" if named else target / "layer_skip.json"
    write_sets(path, before)
    config = config_of(target, **({"skip_file": str(path)} if named else {}))

    check_local_drafters(config)

    assert isinstance(configured_drafter(config, "own", "cpu"), LayerSkipDrafter)
    assert target_id(target) == before, "the file is no part of the target"
