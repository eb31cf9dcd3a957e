"""Answers over links that are slow, lossy and corrupting, or cut, are those that a clean link brings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from benchmarks.chaos.linked_cluster import LinkedCluster, linked_cluster
from benchmarks.chaos.links import CLEAN, CUT, Conditions, LinksUnavailable
from benchmarks.chaos.traffic import (
    DEADLINE_S,
    Reply,
    Stream,
    Traffic,
    keep_asking,
    questions,
    references,
    reply_to,
)
from polydraft import AsyncClient
from tests.conftest import ROOT

BEHIND = (("target-1",), ("target-2", "drafter-de"))
# Drafts are asked for, and waited for, although over such links they do not pay.
OVERRIDES = ("target.draft_lengths=fixed", "target.draft_deadline_s=2")
BAD = Conditions(loss=0.05, delay_s=0.03, jitter_s=0.02, reorder=0.05, duplicate=0.03, corrupt=0.03)
LEASE_S = 5.0
ASKED = questions(20, seed=11, languages=["de"])
NUM_STREAMS = 10

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def linked() -> AsyncIterator[LinkedCluster]:
    try:
        async with linked_cluster(ROOT / "configs" / "local.yaml", OVERRIDES, BEHIND, seed=5) as cluster:
            yield cluster
    except LinksUnavailable as error:
        pytest.skip(f"no links between network namespaces here: {error}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def expected(linked: LinkedCluster) -> list[Reply]:
    """What a clean link brings."""
    return await references(linked.address, ASKED, NUM_STREAMS)


@asynccontextmanager
async def asking(linked: LinkedCluster, expected: Sequence[Reply]) -> AsyncIterator[Traffic]:
    """Every question once over bad links. The block begins when all streams are under way; afterwards all is well."""
    traffic, once = Traffic(), asyncio.Event()
    once.set()
    linked.spoil(BAD)
    asked = asyncio.create_task(keep_asking(linked.address, ASKED, expected, NUM_STREAMS, traffic, once))
    try:
        async with asyncio.timeout(120):
            while sum(len(stream.arrivals_s) > 2 for stream in traffic.streams) < NUM_STREAMS:
                await asyncio.sleep(0.01)
            yield traffic
            await asked
            linked.spoil(CLEAN)
            await linked.until_whole()
    finally:
        asked.cancel()
        linked.spoil(CLEAN)


def assert_all_came_whole(traffic: Traffic) -> None:
    assert traffic.failed == [] and traffic.different == []
    assert traffic.num_identical == len(ASKED)


async def test_bad_links_change_no_answer(linked: LinkedCluster, expected: list[Reply]) -> None:
    async with asking(linked, expected) as traffic:
        pass

    assert_all_came_whole(traffic)
    for counts in (link.counts for link in linked.links):
        assert min(counts.lost, counts.reordered, counts.duplicated, counts.corrupted) > 0


async def test_drafts_come_over_bad_links(linked: LinkedCluster, expected: list[Reply]) -> None:
    streams = [Stream() for _ in range(4)]
    linked.spoil(BAD)
    try:
        async with AsyncClient(linked.address, timeout_s=DEADLINE_S) as client:
            # One after the other: no round of others starts without a block that is on its way.
            found = [await reply_to(client, *both) for both in zip(ASKED, streams, strict=False)]
    finally:
        linked.spoil(CLEAN)

    assert found == expected[: len(streams)]
    assert sum(stream.num_accepted for stream in streams) > 0


@pytest.mark.parametrize("cut_s", [0.4 * LEASE_S, 1.4 * LEASE_S])
async def test_answers_go_on_when_links_that_were_cut_are_mended(
    linked: LinkedCluster, expected: list[Reply], cut_s: float
) -> None:
    async with asking(linked, expected) as traffic:
        cut_at_s = time.monotonic()
        linked.spoil(CUT)
        await asyncio.sleep(cut_s)
        linked.spoil(BAD)

    assert_all_came_whole(traffic)
    assert max(stream.pause_after(cut_at_s) for stream in traffic.streams) > cut_s / 2


async def test_sessions_leave_a_target_whose_link_stays_cut(linked: LinkedCluster, expected: list[Reply]) -> None:
    async with asking(linked, expected) as traffic:
        cut_at_s = time.monotonic()
        linked.links[0].conditions = CUT

    assert_all_came_whole(traffic)
    assert sum(stream.num_failovers for stream in traffic.streams) > 0
    # TCP by itself takes longer to find out, and sessions that were forgotten wait for ever.
    assert max(stream.pause_after(cut_at_s) for stream in traffic.streams) < 3 * LEASE_S
