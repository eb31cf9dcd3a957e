"""A cluster that shrinks, is updated and learns a language while answers go on: none is dropped, and none differs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from benchmarks.chaos.traffic import Traffic, keep_asking, questions, references
from deployments.processes import Process
from polydraft.commands.child_cluster import cluster
from tests.conftest import ROOT
from tests.integration.conftest import replicas, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

NUM_STREAMS = 16
CHANGE_S = 120.0


def _write_config(
    path: Path, drafters: Sequence[str] = ("de",), *, routers: int, targets: int, token_budget: int
) -> None:
    trained = ROOT / "models" / "drafters"
    document = {
        "cluster": {"routers": routers},
        "target": {
            "model": str(ROOT / "models" / "target"),
            "num_cpus": 0.2,
            "num_pages": 1_024,
            "replicas": targets,
            "token_budget": token_budget,
        },
        "drafters": {name: {"method": "lm", "model": str(trained / name), "languages": [name]} for name in drafters},
        "languages": sorted({"fr", "ru", "ja", "zh"} - {*drafters}),
    }
    path.write_text(yaml.safe_dump(document))


async def _change(path: Path, drafters: Sequence[str] = ("de",), **sizes: int) -> None:
    """Write another configuration and let `serve` deploy it."""
    _write_config(path, drafters, **sizes)
    os.kill(serving(path).pid, signal.SIGHUP)


def _replicas(path: Path, deployment: str) -> list[Process]:
    return replicas(deployment, below=serving(path).pid)


async def _until(what: str, is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + CHANGE_S
    while not is_so():
        assert time.monotonic() < deadline_s, f"not within {CHANGE_S} s: {what}"
        await asyncio.sleep(0.2)


async def test_no_stream_is_dropped_when_the_cluster_shrinks_is_updated_and_learns_a_language(tmp_path: Path) -> None:
    config = tmp_path / "cluster.yaml"
    _write_config(config, routers=2, targets=2, token_budget=256)
    asked = questions(40, seed=3)
    traffic, stop = Traffic(), asyncio.Event()
    async with cluster(str(config)) as address:
        expected = await references(address, asked, NUM_STREAMS)
        asking = asyncio.create_task(keep_asking(address, asked, expected, NUM_STREAMS, traffic, stop))
        await asyncio.sleep(2.0)

        before = [*_replicas(config, "router"), *_replicas(config, "target")]
        await _change(config, routers=1, targets=1, token_budget=256)
        await _until("one router and one target", lambda: sum(p.is_alive for p in before) == 2)
        kept = [*_replicas(config, "router"), *_replicas(config, "target")]
        assert len(kept) == 2 and all(process in before for process in kept)
        after_shrinking = traffic.num_asked

        await _change(config, routers=1, targets=2, token_budget=128)
        await _until("all replaced", lambda: _sizes(config) == (1, 2) and not any(p.is_alive for p in kept))
        after_update = traffic.num_asked

        others = [*_replicas(config, "target"), *_replicas(config, "drafter-de")]
        (router,) = _replicas(config, "router")
        await _change(config, ("de", "fr"), routers=1, targets=2, token_budget=128)
        await _until("French", lambda: len(_replicas(config, "drafter-fr")) == 1 and not router.is_alive)
        assert all(process.is_alive for process in others), "a language more concerns the routers alone"
        await asyncio.sleep(2.0)
        stop.set()
        await asking

    assert not traffic.failed
    assert not traffic.different
    assert 0 < after_shrinking < after_update


def _sizes(path: Path) -> tuple[int, int]:
    return len(_replicas(path, "router")), len(_replicas(path, "target"))
