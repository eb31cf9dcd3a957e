"""What callers without a key get from the ports of a whole cluster."""

from __future__ import annotations

import asyncio
import os

import pytest

from benchmarks.fuzz.ports import listening_ports
from benchmarks.fuzz.replicas import DRAFTER, TARGET
from benchmarks.fuzz.runs import Plan
from benchmarks.fuzz.strangers import GENERATE, PATHS, STREAM, fuzz_all_strangers, our_ports
from benchmarks.fuzz.verdicts import Fault
from cluster.keys import hash_key, new_key
from deployments.processes import descendants
from polydraft.errors import Unauthenticated
from tests.integration.conftest import RunningCluster

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHANGE_S = 3.0
"""Routers look at the tenants' file once a second."""


async def test_no_open_port_gives_a_stranger_anything(running_cluster: RunningCluster) -> None:
    async def checkup() -> list[Fault]:
        async with running_cluster.client() as client:
            with pytest.raises(Unauthenticated):  # from a router that is there
                await client.generate("Wo?", max_tokens=1)
        return []

    ports = await our_ports(listening_ports(descendants(os.getpid())))
    try:
        running_cluster.tenants_file.write_text(f"default: {{keys: ['{hash_key(new_key())}']}}\n")
        await asyncio.sleep(CHANGE_S)
        tallies = [tally async for tally in fuzz_all_strangers(ports, PATHS, Plan(100, seed=7), checkup)]
    finally:
        running_cluster.tenants_file.write_text("{}\n")
        await asyncio.sleep(CHANGE_S)

    assert sorted(port.paths for port in ports) == sorted([(GENERATE, STREAM), *[(TARGET,)] * 2, *[(DRAFTER,)] * 5])
    assert [line for tally in tallies for line in tally.report(7)] == []
