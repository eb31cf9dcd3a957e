"""What operators see of the running cluster, by a real Prometheus: every panel has its figures, a fault its alert."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from cluster.dashboards.pages import DASHBOARDS
from deployments.processes import descendants
from polydraft.commands.demo_sentences import LANGUAGE_NAMES, demo_prompts
from polydraft.errors import PolydraftError
from tests.conftest import ROOT
from tests.integration.conftest import RunningCluster, kill, replicas
from tests.integration.prometheus import Prometheus, prometheus
from tests.prometheus.promql import named_in
from tests.prometheus.test_rules import rules

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Told only where the configuration has certificates: test_tls.py looks for it.
ABSENT = {"ray_polydraft_certificate_expiry_timestamp_seconds"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def watching(
    running_cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Prometheus]:
    executable = shutil.which("prometheus")
    if executable is None:
        pytest.skip("prometheus is not installed (`apt-get install prometheus`)")
    folder: Path = tmp_path_factory.mktemp("prometheus")
    async with prometheus(executable, running_cluster.metrics_port, folder) as running:
        yield running


async def _ask_everything(cluster: RunningCluster) -> None:
    """Each language, plainly too, and a few refusals."""
    async with cluster.client() as client:
        calls = [
            client.generate(prompt.prompt, speculation=speculation, max_tokens=32)
            for language in LANGUAGE_NAMES
            for prompt in demo_prompts(language)
            for speculation in ("auto", "off")
        ]
        await asyncio.gather(*calls)
        with pytest.raises(PolydraftError):
            await client.generate("Hallo", language="xx")


async def _keep_asking(cluster: RunningCluster) -> None:
    while True:
        await _ask_everything(cluster)


async def test_every_panel_and_alert_has_its_metrics(running_cluster: RunningCluster, watching: Prometheus) -> None:
    await _ask_everything(running_cluster)
    exprs = [query.expr for page in DASHBOARDS for panel in page.panels for query in panel.queries]
    wanted = {name for expr in [*exprs, *(rule["expr"] for rule in rules("expr"))] for name in named_in(expr)} - ABSENT

    missing = wanted
    async with asyncio.timeout(60):
        while missing := {name for name in missing if not await watching.query(name)}:
            await asyncio.sleep(0.5)
    await _ask_everything(running_cluster)  # rates need an increase that was seen
    empty = exprs
    async with asyncio.timeout(60):
        while empty := [expr for expr in empty if not await watching.query(_as_grafana_asks(expr))]:
            await asyncio.sleep(0.5)
    shares = await watching.query("sum by (language) (rate(ray_polydraft_accepted_tokens_total[1m])) > 0")
    assert {series["metric"]["language"] for series in shares} == {*LANGUAGE_NAMES}


def _as_grafana_asks(expr: str) -> str:
    return expr.replace("$application", ".*").replace("$__rate_interval", "1m")


def _polydraft(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polydraft", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)


def _ray_address() -> str:
    """Of the Ray below this process: others may run on the machine."""
    titles = "\n".join(process.title for process in descendants(os.getpid()))
    found = re.search(r"--gcs-address=(\S+)", titles)
    assert found is not None
    return found[1]


async def test_operators_see_the_cluster_at_one_look_and_live(running_cluster: RunningCluster) -> None:
    where = ["--ray", await asyncio.to_thread(_ray_address)]
    asking = asyncio.create_task(_keep_asking(running_cluster))
    status, told, picture, elsewhere = await asyncio.gather(
        asyncio.to_thread(_polydraft, "status", *where),
        asyncio.to_thread(_polydraft, "status", "--json", *where),
        asyncio.to_thread(_polydraft, "top", "--once", "--interval", "4", *where),
        asyncio.to_thread(_polydraft, "status", "--cluster", "elsewhere", *where),
    )
    asking.cancel()

    assert elsewhere.returncode == 2 and "this Ray runs no cluster 'elsewhere'" in elsewhere.stderr
    assert status.returncode == told.returncode == 0, status.stderr + told.stderr
    assert status.stdout.startswith("cluster polydraft: whole")
    replicas = json.loads(told.stdout)["replicas"]
    kinds = Counter(replica["kind"] for replica in replicas)
    assert kinds == {"router": 1, "target": 2, "drafter": len(LANGUAGE_NAMES)}
    assert len({replica["numerics_id"] for replica in replicas if replica["kind"] == "target"}) == 1
    lines = picture.stdout.splitlines()
    assert {line.split()[0] for line in lines if line} >= {*LANGUAGE_NAMES, "target", "router", "default", "drafter-de"}
    assert int(next(line for line in lines if line.startswith("de ")).split()[1]) > 0


async def test_losing_all_targets_fires_its_alert_and_their_return_ends_it(
    running_cluster: RunningCluster, watching: Prometheus
) -> None:
    assert "PolydraftTargetDown" not in await watching.firing()

    async with asyncio.timeout(90):
        while "PolydraftTargetDown" not in await watching.firing():
            for process in replicas("target"):  # also one that has just come back
                kill(process)
            await asyncio.sleep(0.5)

        while "PolydraftTargetDown" in await watching.firing():
            await asyncio.sleep(0.5)
    async with running_cluster.client() as client:
        assert (await client.generate("Wo ist der Bahnhof?", max_tokens=4)).token_ids
