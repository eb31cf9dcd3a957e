"""A whole cluster under TLS: in front for callers with a certificate, and mutual between its tiers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
import trustme
import yaml

from benchmarks.certificates import write_certificate
from cluster.catalogue import CERTIFICATE_EXPIRY
from deployments.processes import Process, descendants
from polydraft.cli import main
from polydraft.client import AsyncClient
from polydraft.commands.child_cluster import cluster, free_port
from polydraft.commands.demo_sentences import demo_prompts
from polydraft.errors import Unavailable
from tests.certificates import caller, first_in, shown_at
from tests.conftest import ROOT
from tests.integration.conftest import replicas

FRONT, CALLERS, TIERS = trustme.CA(), trustme.CA(), trustme.CA()
LISTENING = "0A"


def write_config(folder: Path) -> Path:
    """One target and one drafter, and what stands under `tls`."""
    front = write_certificate(folder / "front", FRONT, "127.0.0.1")
    front["client_authority"] = front.pop("authority")
    CALLERS.cert_pem.write_to_path(front["client_authority"])
    models = ROOT / "models"
    config = {
        "target": {"model": str(models / "target"), "num_cpus": 0.5, "draft_lengths": "fixed"},
        "drafters": {"de": {"method": "lm", "model": str(models / "drafters" / "de"), "languages": ["de"]}},
        "tls": {"front": front, "tiers": write_certificate(folder / "tiers", TIERS, "polydraft")},
    }
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def certificates_of(process: Process) -> set[str]:
    """What a process shows on the ports of its own at which it speaks TLS."""
    proc = Path("/proc") / str(process.pid)
    sockets = set()
    for descriptor in (proc / "fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            sockets.add(str(descriptor.readlink()))
    shown = set()
    # gRPC listens on IPv4 addresses with sockets of IPv6.
    for line in [line for table in ("tcp", "tcp6") for line in (proc / "net" / table).read_text().splitlines()]:
        fields = line.split()
        if fields[3] == LISTENING and f"socket:[{fields[9]}]" in sockets:
            with suppress(OSError):  # one of Ray's
                shown.add(shown_at(f"127.0.0.1:{int(fields[1].rpartition(':')[2], 16)}"))
    return shown


async def expiries(metrics_port: int) -> dict[str, float]:
    """By section of `tls`, as a cluster tells Prometheus, once it does: the alert on certificates reads them."""
    pattern = re.compile(rf'^{CERTIFICATE_EXPIRY.exported}{{.*section="(\w+)".*}} (\S+)$', re.M)
    async with asyncio.timeout(60):
        while True:
            with urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=10) as reply:
                if found := dict(pattern.findall(reply.read().decode())):
                    return {section: float(value) for section, value in found.items()}
            await asyncio.sleep(0.5)


async def test_everything_between_callers_and_replicas_is_encrypted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = set(descendants(os.getpid()))
    (prompt, *_) = demo_prompts("de")
    write_certificate(tmp_path / "caller", CALLERS, "caller")
    FRONT.cert_pem.write_to_path(str(tmp_path / "front.pem"))
    shown = [
        "--certificate",
        str(tmp_path / "caller/certificate.pem"),
        "--certificate-key",
        str(tmp_path / "caller/key.pem"),
    ]
    flags = ["--ca", str(tmp_path / "front.pem"), *shown, "--max-tokens", "24", "--json"]

    metrics_port = free_port()
    async with cluster(str(write_config(tmp_path)), [f"ray.metrics_port={metrics_port}"]) as address:
        status = await asyncio.to_thread(main, ["generate", "--address", address, *flags, prompt.prompt])
        for refused in (None, caller(FRONT), caller(FRONT, TIERS)):
            async with AsyncClient(address, credentials=refused, timeout_s=60) as client:
                with pytest.raises(Unavailable, match="no server answers"):
                    await client.generate(prompt.prompt, max_tokens=2)
        of_tiers = [
            await asyncio.to_thread(certificates_of, process)
            for deployment in ("target", "drafter-de")
            for process in replicas(deployment)
            if process not in others
        ]
        expire = await expiries(metrics_port)
        before = await asyncio.to_thread(shown_at, address)
        write_certificate(tmp_path / "front", FRONT, "127.0.0.1")
        CALLERS.cert_pem.write_to_path(str(tmp_path / "front" / "authority.pem"))
        after = await asyncio.to_thread(shown_at, address)

    answer = json.loads(capsys.readouterr().out)
    assert (status, answer["drafter"]) == (0, "de")
    assert answer["speculation"]["drafted"] > 0
    assert of_tiers == [{first_in(tmp_path / "tiers" / "certificate.pem")}] * 2
    assert expire.keys() == {"front", "tiers"} and min(expire.values()) > time.time()
    assert before != after == first_in(tmp_path / "front" / "certificate.pem")
