"""A drafter learns from one tenant's answers while it serves: that tenant gets the new version, another does not."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.processes import descendants
from polydraft.answers import Answer
from polydraft.client import AsyncClient
from polydraft.commands.child_cluster import cluster
from polydraft.commands.demo_sentences import demo_prompts
from tests.conftest import ROOT
from tests.integration.conftest import CONFIG, kill

PROMISED_WITHIN_S = 120
"""Of traffic a version must have come; the trainer's process takes a while to start."""
PROMPTS = [prompt.prompt for language in ("fr", "ru", "ja", "zh") for prompt in demo_prompts(language)]
"""The German drafter is overruled often in these. So many that a secret key hardly puts all on one side."""


async def _answers(client: AsyncClient, speculation: str, count: int | None = None) -> list[Answer]:
    return [
        await client.generate(prompt, speculation=speculation, temperature=0.8, seed=3, max_tokens=24)
        for prompt in PROMPTS[:count]
    ]


def _drafters(*words: str) -> str:
    command = [sys.executable, "-m", "polydraft", "drafters", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


async def test_one_tenants_drafter_is_promoted_and_rolled_back(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Half of all prompts judge, two of them are enough, and any shadow passes: what is tested is the way round.
    learning = "batch_positions: 20, updates_per_gate: 2, holdout_share: 0.5, holdout_sessions: 2, gate_tolerance: 0.9"
    overrides = [
        f"drafters={{de: {{method: lm, model: {ROOT / 'models' / 'drafters' / 'de'}, languages: [de]}}}}",
        "tenants={acme: {adapt_drafters: true}, other: {adapt_drafters: true}}",
        f"adaptation={{directory: {tmp_path}, {learning}}}",
        "cluster.name=adapting",
        "target.draft_lengths=fixed",
    ]
    async with cluster(str(CONFIG), overrides) as address:
        acme = AsyncClient(address, tenant="acme", timeout_s=60)
        other = AsyncClient(address, tenant="other", timeout_s=60)
        async with acme, other:
            plain = [answer.token_ids for answer in await _answers(acme, "off")]
            versions = ["de@0"]
            async with asyncio.timeout(PROMISED_WITHIN_S):
                while versions[-1] == "de@0":
                    drafted = await _answers(acme, "de")
                    assert [answer.token_ids for answer in drafted] == plain
                    versions += [answer.speculation.drafter_version for answer in drafted]
            assert versions[1] == "de@0" and re.fullmatch(r"de@acme\.\d+", versions[-1])
            assert {a.speculation.drafter_version for a in await _answers(other, "de", 2)} == {
                "de@0"
            }  # too few to learn from

            (trainer,) = [p for p in descendants(os.getpid()) if p.title.startswith("ray::TrainerActor")]
            kill(trainer)
            assert [answer.token_ids for answer in await _answers(acme, "de")] == plain

            where = re.search(r"polydraft drafters status de (--cluster adapting --ray \S+)", capfd.readouterr().err)
            assert where is not None
            assert "tenant other has version 0" in _drafters("status", "de", *where[1].split())
            told = _drafters("rollback", "de", "--tenant", "acme", "--to", "0", *where[1].split())
            assert told == "de: tenant acme has version 0\n"
