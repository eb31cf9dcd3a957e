"""A real Prometheus for a test: it scrapes one port, with the project's rules made quick."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from polydraft.commands.child_cluster import free_port
from tests.conftest import ROOT

_FOLDER = ROOT / "configs" / "prometheus"


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running one."""

    url: str

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """The series that an expression has now."""
        data = await asyncio.to_thread(self._get, "query?" + urlencode({"query": expr}))
        found: list[dict[str, Any]] = data["result"]
        return found

    async def firing(self) -> set[str]:
        data = await asyncio.to_thread(self._get, "alerts")
        return {alert["labels"]["alertname"] for alert in data["alerts"] if alert["state"] == "firing"}

    async def is_up(self) -> bool:
        try:
            return bool(await self.query("up == 1"))
        except URLError:
            return False

    def _get(self, path: str) -> Any:
        with urlopen(f"{self.url}/api/v1/{path}", timeout=10) as reply:
            return json.load(reply)["data"]


@asynccontextmanager
async def prometheus(executable: str, metrics_port: int, folder: Path) -> AsyncIterator[Prometheus]:
    """It runs inside the block; `for:` of all alerts is a second, and what they look back at ten."""
    quick = re.sub(r"\bfor: \w+", "for: 1s", (_FOLDER / "rules.yaml").read_text())
    (folder / "rules.yaml").write_text(re.sub(r"\[\d+m\]", "[10s]", quick))
    config = yaml.safe_load((_FOLDER / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{metrics_port}"]}]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    flags = {"config.file": folder / "prometheus.yaml", "storage.tsdb.path": folder / "data"}
    command = [executable, f"--web.listen-address={address}", *(f"--{key}={value}" for key, value in flags.items())]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            running = Prometheus(f"http://{address}")
            async with asyncio.timeout(30):
                while not await running.is_up():
                    assert process.poll() is None, (folder / "log").read_text()
                    await asyncio.sleep(0.2)
            yield running
        finally:
            process.terminate()
