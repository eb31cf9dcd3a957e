"""Each method with some hundred fuzzed messages: none crashes, hangs, leaks, lets strangers in or answers wrongly."""

from __future__ import annotations

import os

import pytest

from benchmarks.fuzz.ports import listening_ports
from benchmarks.fuzz.public import METHODS, Method
from benchmarks.fuzz.replicas import DRAFTER, TARGET, fuzz_drafter, fuzz_target, under_fuzz
from benchmarks.fuzz.runs import Plan, fuzz_public
from benchmarks.fuzz.strangers import GENERATE, PATHS, STREAM, fuzz_all_strangers, our_ports
from benchmarks.fuzz.whole_cluster import WholeCluster
from cluster.config import Config
from deployments.processes import Process

pytestmark = pytest.mark.asyncio(loop_scope="package")

SEED = 7


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_public_methods(tiny_cluster: WholeCluster, method: Method) -> None:
    tally = await fuzz_public(tiny_cluster.address, method, tiny_cluster.known, Plan(300, SEED), tiny_cluster.checkup)

    assert tally.report(SEED) == []
    assert {"OK", "INVALID_ARGUMENT"} <= {*tally.statuses} or method.name == "Watch"


async def test_strangers_get_nothing_from_any_port(tiny_cluster: WholeCluster) -> None:
    ports = await our_ports(listening_ports([Process(os.getpid(), "")]))
    tallies = [tally async for tally in fuzz_all_strangers(ports, PATHS, Plan(100, SEED), tiny_cluster.checkup)]

    assert sorted(port.paths for port in ports) == sorted([(GENERATE, STREAM), (TARGET,), (DRAFTER,)])
    assert [line for tally in tallies for line in tally.report(SEED)] == []
    assert all(tally.num_messages for tally in tallies)


async def test_streams_to_targets(config: Config) -> None:
    tally = await fuzz_target(under_fuzz(config), Plan(300, SEED))

    assert tally.report(SEED) == []


async def test_streams_to_drafters(config: Config) -> None:
    tally = await fuzz_drafter(under_fuzz(config), "de", Plan(300, SEED))

    assert tally.report(SEED) == []
