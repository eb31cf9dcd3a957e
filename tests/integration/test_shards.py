"""A target over two ranks, as its users see it: the same text, drafted or not, also when a rank is killed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from benchmarks.chaos.victims import Kind, ready
from deployments.processes import Process, descendants
from polydraft.answers import Answer, Chunk
from polydraft.client import AsyncClient
from polydraft.commands.child_cluster import cluster
from polydraft.commands.demo_sentences import demo_prompts
from tests.conftest import ROOT
from tests.integration.conftest import CONFIG, RunningCluster, kill, replicas

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROMPTS = [demo_prompts(language)[0].prompt for language in ("de", "ja")]
GERMAN = f"{{method: lm, model: {ROOT}/models/drafters/de, languages: [de]}}"
OVERRIDES = [
    "target.shards=2",
    "target.num_cpus=0.2",
    "target.dtype=float32",
    "target.draft_lengths=fixed",
    f"drafters={{de: {GERMAN}}}",
    "languages=[ja]",
]
OF_SHARDS = Kind(["ray::TargetShard"], 1)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sharded_cluster() -> AsyncIterator[AsyncClient]:
    async with cluster(str(CONFIG), OVERRIDES) as address, AsyncClient(address, timeout_s=120) as client:
        yield client
    assert not ready(OF_SHARDS), "a shard outlived its cluster"


async def _answers(client: AsyncClient, speculation: str) -> list[Answer]:
    calls = [client.generate(prompt, speculation=speculation, max_tokens=40) for prompt in PROMPTS]
    return list(await asyncio.gather(*calls))


async def test_two_ranks_give_the_text_of_one_drafted_or_not(
    running_cluster: RunningCluster, sharded_cluster: AsyncClient
) -> None:
    async with running_cluster.client() as client:
        whole = await _answers(client, "auto")
    plain = await _answers(sharded_cluster, "off")
    drafted = await _answers(sharded_cluster, "auto")

    assert [answer.token_ids for answer in drafted] == [answer.token_ids for answer in plain]
    assert [answer.token_ids for answer in plain] == [answer.token_ids for answer in whole]
    assert {answer.numerics_id for answer in plain} == {answer.numerics_id for answer in drafted}
    assert {answer.numerics_id for answer in plain}.isdisjoint(answer.numerics_id for answer in whole)
    assert sum(answer.speculation.accepted for answer in drafted) > 0


async def test_a_stream_goes_on_when_a_shard_is_killed(sharded_cluster: AsyncClient) -> None:
    expected = await sharded_cluster.generate(PROMPTS[0], temperature=0.8, seed=5, max_tokens=200)
    ours = descendants(os.getpid())
    (shard,) = [process for process in ready(OF_SHARDS) if process in ours]
    replica = _replica_beside(shard)

    found: list[int] = []
    async for event in sharded_cluster.stream(PROMPTS[0], temperature=0.8, seed=5, max_tokens=200):
        if isinstance(event, Chunk):
            if not found:
                kill(shard)
            found += event.token_ids

    assert tuple(found) == tuple(expected.token_ids)
    assert not shard.is_alive and not replica.is_alive, "a replica without its shard is none"
    assert len(ready(OF_SHARDS)) == 1


def _replica_beside(shard: Process) -> Process:
    """The target replica of the sharded cluster: the one that a raylet started which started the shard too."""
    raylets = [p for p in descendants(os.getpid()) if shard in descendants(p.pid)]
    return next(replica for replica in replicas("target") if replica in descendants(raylets[-1].pid))
