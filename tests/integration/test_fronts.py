"""The second adapter, and what `serve` leaves behind."""

from __future__ import annotations

import os

import pytest

from deployments.processes import descendants
from polydraft.client import AsyncClient
from polydraft.commands.child_cluster import cluster
from polydraft.commands.demo_sentences import demo_prompts
from tests.integration.conftest import CONFIG


async def test_serves_through_rays_own_ingress_and_leaves_no_process() -> None:
    before = set(descendants(os.getpid()))
    (prompt, *_) = demo_prompts("fr")
    async with cluster(str(CONFIG), ["cluster.front=serve"]) as address, AsyncClient(address, timeout_s=60) as client:
        started = set(descendants(os.getpid())) - before
        drafted = await client.generate(prompt.prompt, max_tokens=24)
        plain = await client.generate(prompt.prompt, max_tokens=24, speculation="off")

    assert drafted.drafter == "fr"
    assert drafted.token_ids == plain.token_ids
    assert len(started) > 5
    assert not [process for process in started if process.is_alive]


@pytest.mark.parametrize(
    ("override", "words"),
    [("target.model=/nowhere", "target.model"), ("target.shards=2", "shards"), ("target.modle=x", "modle")],
)
async def test_a_wrong_configuration_is_told_before_anything_starts(
    override: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from polydraft.cli import main

    assert main(["serve", str(CONFIG), "--set", override]) == 2
    assert words in capsys.readouterr().err
