"""A drafter rests until it is asked for, grows with a burst on machines of its tier, and rests; no answer waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.chaos.traffic import Question, Reply, Traffic, keep_asking, questions, references
from benchmarks.fake_machines import Machine, fake_machines
from deployments.processes import descendants, mentioning
from polydraft.commands.child_cluster import cluster
from tests.conftest import ROOT
from tests.integration.conftest import replicas

pytestmark = pytest.mark.asyncio(loop_scope="session")

NUM_STREAMS = 6
CHANGE_S = 120.0
SCALING = {"min_replicas": 0, "max_replicas": 2, "up_delay_s": 1, "down_delay_s": 3, "zero_delay_s": 3, "sessions": 2}


def _write_config(path: Path) -> Path:
    german = {"method": "lm", "model": str(ROOT / "models" / "drafters" / "de"), "languages": ["de"]}
    target = {
        "model": str(ROOT / "models" / "target"),
        "num_cpus": 0.2,
        "num_pages": 1_024,
        "draft_lengths": "fixed",
        "resources": {"target_machine": 1},
        "autoscaling": {"max_replicas": 2},
    }
    document = {
        "target": target,
        "drafters": {"de": {**german, "resources": {"drafter_machine": 1}, "autoscaling": SCALING}},
        "languages": ["fr", "ru", "ja", "zh"],
    }
    path.write_text(yaml.safe_dump(document))
    return path


async def _until(what: str, is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + CHANGE_S
    while not is_so():
        assert time.monotonic() < deadline_s, f"not within {CHANGE_S} s: {what}"
        await asyncio.sleep(0.2)


def _drafters(below: int) -> int:
    return len(replicas("drafter-de", below))


@asynccontextmanager
async def _burst(address: str, asked: list[Question], expected: list[Reply], traffic: Traffic) -> AsyncIterator[None]:
    stop = asyncio.Event()
    asking = asyncio.create_task(keep_asking(address, asked, expected, NUM_STREAMS, traffic, stop))
    try:
        yield
    finally:
        stop.set()
        await asking


async def _health(address: str, service: str) -> int:
    async with grpc.aio.insecure_channel(address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    return int(answer.status)


async def test_a_burst_in_one_language_brings_machines_of_its_tier_alone_and_no_answer_waits(tmp_path: Path) -> None:
    config = _write_config(tmp_path / "cluster.yaml")
    asked, traffic = questions(30, seed=6, languages=["de"]), Traffic()
    with fake_machines(Machine("drafter_machine", most=3), Machine("target_machine", most=2)) as machines:
        async with cluster(str(config), [f"ray.address={machines.address}"]) as address:
            targets_seen = {machines.count("target_machine")}
            assert machines.count("drafter_machine") == 0 == _drafters(machines.pid)
            assert await _health(address, "drafter-de") == health_pb2.HealthCheckResponse.SERVING, "it only rests"
            # Nobody drafts yet: these are the target's own answers.
            expected = await references(address, asked, NUM_STREAMS)
            async with _burst(address, asked, expected, traffic):
                await _until("two machines for drafters", lambda: machines.count("drafter_machine") == 2)
                targets_seen.add(machines.count("target_machine"))
                await _until("two drafters", lambda: _drafters(machines.pid) == 2)
                await asyncio.sleep(3.0)
                started = descendants(machines.pid)
            await _until("no machine for drafters", lambda: machines.count("drafter_machine") == 0)
            targets_seen.add(machines.count("target_machine"))
            cold = await references(address, asked[:3], 1)

    assert not traffic.failed
    assert not traffic.different
    assert any(stream.num_accepted for stream in traffic.streams)
    assert cold == expected[:3]
    assert targets_seen == {1}
    assert started and not [process for process in started if process.is_alive]
    assert not mentioning(str(machines.directory))
