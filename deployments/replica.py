"""What every replica of a tier does: serve its own gRPC port, register it, and leave in order."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Literal, Protocol

from cluster.measures import Measures
from cluster.messages import Hello
from cluster.status import Report
from cluster.tls import PemFiles
from deployments.addresses import advertised
from deployments.directory import DirectoryClient, Registration
from deployments.guard import Guard
from deployments.peer_server import Context, PeerServer
from deployments.servers import Server
from deployments.tls import bind
from protos.v1 import internal_pb2 as pb
from protos.v1 import internal_pb2_grpc

_MAX_MESSAGE_BYTES = 64 << 20
_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
)


class Service(Protocol):
    """A target or drafter without Ray."""

    server: PeerServer

    def hello(self) -> Hello: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def check_health(self) -> None: ...

    def measures(self) -> Measures:
        """All that is counted, up to now."""

    def facts(self) -> Mapping[str, str]:
        """For `polydraft status`."""


class Servicer:
    """`Sessions` of both services."""

    def __init__(self, server: PeerServer) -> None:
        self._server = server

    async def Sessions(self, frames: AsyncIterator[pb.Frame], context: Context) -> AsyncIterator[pb.Frame]:
        async for frame in self._server.serve(frames, context):
            yield frame


def new_replica_id(name: str) -> str:
    """New with each start, so that nothing is taken for its predecessor."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


class Replica:
    """A running service with its port and its entry in the directory."""

    def __init__(
        self, kind: Literal["target", "drafter"], name: str, service: Service, directory: DirectoryClient
    ) -> None:
        self._kind = kind
        self._name = name
        self._service = service
        self._directory = directory
        self._server = Server(Guard(), _OPTIONS)
        self._started_at = time.time()
        self._registering: asyncio.Task[None] | None = None

    async def start(self, host: str, tls: PemFiles | None = None) -> None:
        """Begin to serve on any free port of `host` and to tell the directory."""
        servicer = Servicer(self._service.server)
        if self._kind == "target":
            internal_pb2_grpc.add_TargetServicer_to_server(servicer, self._server)
        else:
            internal_pb2_grpc.add_DrafterServicer_to_server(servicer, self._server)
        port = bind(self._server, f"{host}:0", tls)
        await self._server.start()
        self._service.start()
        self._service.server.start()
        hello = self._service.hello()
        address = f"{advertised(host)}:{port}"
        registration = Registration(self._kind, self._name, hello.peer_id, address, hello.numerics_id)
        self._registering = asyncio.create_task(self._directory.keep_registered(lambda: registration, self._report))

    def _report(self) -> Report:
        return Report(self._started_at, tuple(self._service.measures().samples()), self._service.facts())

    def check_health(self) -> None:
        """Raise if the replica must be replaced."""
        self._service.check_health()
        self._server.check_health()

    async def stop(self, drain_s: float) -> None:
        """Leave: no new sessions, time to move or end for the old ones, then the end of the thread and the port."""
        if self._registering is not None:
            self._registering.cancel()
        await self._directory.unregister(self._service.hello().peer_id)
        await self._service.server.stop(drain_s)
        await self._server.stop(0.5)
        self._service.stop()
