"""The streams between routers and replicas under mutual TLS, over a replica's own port on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import trustme

from benchmarks.certificates import write_certificate
from benchmarks.tcp_proxy import proxy_to
from cluster.config import Config
from cluster.measures import Measures
from cluster.messages import Open, Sampling
from cluster.status import Report
from cluster.tls import PemFiles, tier_files
from deployments.directory import DirectoryClient, Registration
from deployments.peer_client import Identity, PeerClient
from deployments.peer_server import PeerServer, SessionKey
from deployments.replica import Replica
from deployments.tls import connector
from protos.v1.internal_pb2_grpc import TargetStub
from tests.certificates import caller
from tests.unit.deployments.recorder import Recorder
from tests.unit.deployments.streams import TOKEN, Router, until

OURS, FOREIGN = trustme.CA(), trustme.CA()
NAME = "polydraft"
IDENTITY = Identity("router", TOKEN, "t", "tok", heartbeat_s=0.05, lease_s=30.0)
OPEN = Open((1, 2), 2, Sampling(), 7, 0, 5, "default", credit_tokens=8)


class Service(Recorder):
    """A target that notes what it is told and does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.server = PeerServer(self, TOKEN, 0.05, 30.0, time.monotonic)

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def check_health(self) -> None: ...

    def measures(self) -> Measures:
        return Measures()

    def facts(self) -> dict[str, str]:
        return {}


class Table(DirectoryClient):
    """The directory as a single replica sees it, without Ray."""

    def __init__(self) -> None:
        super().__init__("none")
        self.found: list[Registration] = []

    async def register(self, registration: Registration) -> None:
        self.found = [registration]

    async def tell(self, replica_id: str, report: Report) -> None: ...

    async def unregister(self, replica_id: str) -> None:
        self.found = []


def files(directory: Path, authority: trustme.CA = OURS, name: str = NAME) -> PemFiles:
    """What routers and replicas read, as the configuration names it."""
    tiers = {**write_certificate(directory, authority, name), "name": name}
    found = tier_files(Config.model_validate({"target": {"model": "m"}, "tls": {"tiers": tiers}}))
    assert found is not None
    return found


@asynccontextmanager
async def serving(tls: PemFiles | None) -> AsyncIterator[tuple[Service, Registration]]:
    """A service, and its replica as the directory knows it."""
    service, table = Service(), Table()
    replica = Replica("target", "target", service, table)
    await replica.start("127.0.0.1", tls)
    await until(lambda: bool(table.found))
    try:
        yield service, table.found[0]
    finally:
        await replica.stop(drain_s=0.0)


@asynccontextmanager
async def routing(
    replica: Registration, tls: PemFiles, identity: Identity = IDENTITY, on_change: Callable[[], None] = lambda: None
) -> AsyncIterator[PeerClient]:
    """A router's client of the replica."""
    client = PeerClient(replica, identity, connector(tls), time.monotonic, on_change)
    run = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        run.cancel()
        with suppress(asyncio.CancelledError):
            await run


async def test_a_router_of_the_cluster_gets_a_stream_and_needs_its_token_too(tmp_path: Path) -> None:
    tls = files(tmp_path)
    async with serving(tls) as (_, replica):
        async with routing(replica, tls) as client:
            await until(lambda: client.is_ready)
        async with routing(replica, tls, replace(IDENTITY, token="guess")) as client:
            await until(lambda: client.refusal is not None)

    assert "cluster token" in str(client.refusal)


@pytest.mark.parametrize(
    "credentials",
    [None, caller(OURS), caller(OURS, FOREIGN)],
    ids=["plaintext", "no certificate", "a foreign certificate"],
)
async def test_nobody_else_gets_a_stream_even_with_the_token(
    tmp_path: Path, credentials: grpc.ChannelCredentials | None
) -> None:
    async with serving(files(tmp_path)) as (_, replica):
        channel = (
            grpc.aio.insecure_channel(replica.address)
            if credentials is None
            else grpc.aio.secure_channel(replica.address, credentials, [("grpc.ssl_target_name_override", NAME)])
        )
        async with channel:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                async with asyncio.timeout(20):
                    await Router(TargetStub(channel)).call.read()

    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("authority", "name"),
    [(FOREIGN, NAME), (OURS, "another"), (None, NAME)],
    ids=["a foreign certificate", "another name", "plaintext"],
)
async def test_a_router_uses_no_false_replica_and_says_so_once(
    tmp_path: Path, authority: trustme.CA | None, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = files(tmp_path / "theirs", authority, name) if authority is not None else None
    async with (
        serving(theirs) as (_, replica),
        proxy_to(replica.address) as (proxy, address),
        routing(replace(replica, address=address), files(tmp_path / "ours")) as client,
    ):
        await until(lambda: proxy.num_connections >= 3)
        assert not client.is_connected

    assert sum("no stream to target" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("change", ["exchanged", "half written"])
async def test_changed_files_count_from_the_next_stream_on(tmp_path: Path, change: str) -> None:
    tls, changes = files(tmp_path), []
    async with (
        serving(tls) as (service, replica),
        proxy_to(replica.address) as (proxy, address),
        routing(replace(replica, address=address), tls, on_change=lambda: changes.append(1)) as client,
    ):
        await until(lambda: client.is_ready)
        if change == "exchanged":
            files(tmp_path, FOREIGN)
        else:
            (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
        client.open(5, 1, OPEN, deliver=lambda message: None).close()
        await service.until("close", SessionKey("router.1", 5))
        assert len(changes) == 1, "the open stream goes on"

        proxy.drop()
        await until(lambda: client.is_ready and len(changes) == 3)
