"""A cluster of the shipped models with two target replicas, started once, and ways to kill parts of it."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from benchmarks.chaos.victims import Kind, ready
from cluster.keys import hash_key, new_key
from deployments.processes import Process, descendants
from polydraft.client import AsyncClient
from polydraft.commands.child_cluster import cluster_with_http, free_port
from tests.conftest import ROOT

CONFIG = ROOT / "configs" / "local.yaml"


@dataclass(frozen=True, slots=True)
class RunningCluster:
    """Where a cluster answers."""

    address: str
    http: str
    tenants_file: Path
    metrics_port: int
    operator_key: str
    """For the console's figures of all tenants."""

    @asynccontextmanager
    async def client(self, tenant: str | None = None, key: str | None = None) -> AsyncIterator[AsyncClient]:
        async with AsyncClient(self.address, tenant, key=key, timeout_s=120) as client:
            yield client


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningCluster]:
    tenants_file = tmp_path_factory.mktemp("tenants") / "tenants.yaml"
    tenants_file.write_text("{}\n")
    overrides = ["target.replicas=2", "target.dtype=float32", "limits.credit_tokens=8", "target.draft_lengths=fixed"]
    overrides.append(f"tenants_file={tenants_file}")
    # Two drafters for one language more, one of them in the target's step.
    overrides += ["drafters.de.languages=[de, nl]", "drafters.ngram.languages=[nl]"]
    metrics_port = free_port()
    operator_key = new_key()
    overrides += ["cluster.http_port=0", f"ray.metrics_port={metrics_port}"]
    overrides.append(f"console.operator_keys=['{hash_key(operator_key)}']")
    os.environ.update(RAY_metrics_report_interval_ms="1000")  # tests do not wait for ten seconds
    async with cluster_with_http(str(CONFIG), overrides) as addresses:
        yield RunningCluster(addresses["grpc"], addresses["http"], tenants_file, metrics_port, operator_key)
    assert not [process for process in descendants(os.getpid()) if "ray::" in process.title]


def replicas(deployment: str, below: int | None = None) -> list[Process]:
    """The processes of a deployment's replicas that are up, among those that process `below` started, or this one.

    The session's cluster may run beside a test's own.
    """
    ours = descendants(os.getpid() if below is None else below)
    return [process for process in ready(Kind([f"ray::ServeReplica:polydraft:{deployment}"], 1)) if process in ours]


def serving(config: Path) -> Process:
    """The process that serves a configuration."""
    (serve,) = [process for process in descendants(os.getpid()) if f"polydraft serve {config}" in process.title]
    return serve


def kill(process: Process) -> None:
    os.kill(process.pid, signal.SIGKILL)


@pytest.fixture(autouse=True)
def models_are_there() -> Iterator[None]:
    assert (ROOT / "models" / "target" / "config.json").is_file(), "the demo family is not in models/"
    yield
