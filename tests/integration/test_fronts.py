"""The second adapter, and what `serve` leaves behind."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from deployments.processes import descendants
from polydraft.client import AsyncClient
from polydraft.commands.child_cluster import cluster
from polydraft.commands.demo_sentences import demo_prompts
from tests.conftest import ROOT
from tests.integration.conftest import CONFIG

SINGLE = ROOT / "configs" / "single.yaml"


async def test_serves_through_rays_own_ingress_and_leaves_no_process(capfd: pytest.CaptureFixture[str]) -> None:
    before = set(descendants(os.getpid()))
    (prompt, *_) = demo_prompts("fr")
    async with cluster(str(CONFIG), ["cluster.front=serve"]) as address, AsyncClient(address, timeout_s=60) as client:
        started = set(descendants(os.getpid())) - before
        drafted = await client.generate(prompt.prompt, max_tokens=24)
        plain = await client.generate(prompt.prompt, max_tokens=24, speculation="off")

    assert drafted.drafter == "fr"
    assert drafted.token_ids == plain.token_ids
    assert "travel in the clear: cluster.front is serve" in capfd.readouterr().err
    assert len(started) > 5
    assert not [process for process in started if process.is_alive]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("target.model=/nowhere", "target.model"),
        ("target.shards=4", "target.shards: 4 exceeds the 3 KV heads"),
        ("target.modle=x", "modle"),
        ("tls={front: {certificate: /nowhere, key: /nowhere}}", "tls.front.certificate: /nowhere cannot be read"),
    ],
)
async def test_a_wrong_configuration_is_told_before_anything_starts(
    override: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from polydraft.cli import main

    assert main(["serve", str(CONFIG), "--set", override]) == 2
    assert words in capsys.readouterr().err


async def test_a_drafter_of_another_target_is_told_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from polydraft.cli import main

    other = shutil.copytree(ROOT / "models" / "drafters" / "de", tmp_path / "de")
    about = json.loads((other / "drafter.json").read_text())
    (other / "drafter.json").write_text(json.dumps(about | {"target_id": "another"}))

    assert main(["serve", str(SINGLE), "--set", f"drafters.de.model={other}"]) == 2
    assert "drafter de was trained for target another; train one for" in capsys.readouterr().err


async def test_drafters_in_the_targets_step_draft_and_change_no_token() -> None:
    (prompt, *_) = demo_prompts("fr")
    overrides = ["target.draft_lengths=fixed"]
    async with cluster(str(SINGLE), overrides) as address, AsyncClient(address, timeout_s=60) as client:
        for temperature in (0.0, 0.8):
            answers = [
                await client.generate(
                    prompt.prompt, max_tokens=24, temperature=temperature, seed=5, speculation=speculation
                )
                for speculation in ("auto", "off")
            ]
            assert [answer.drafter for answer in answers] == ["fr", "off"]
            assert answers[0].token_ids == answers[1].token_ids
            assert answers[0].speculation.drafted > 0
