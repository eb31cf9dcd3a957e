"""The router's own gRPC server: the public service with deadlines, flow control, health and a message limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from cluster.delivery import deliver
from cluster.events import Event, Started
from cluster.tls import PemFiles
from deployments.generation import Generation
from deployments.guard import Guard, Metadata
from deployments.public import event_to_pb, join_events
from deployments.servers import Server
from deployments.tls import bind
from protos.v1 import generate_pb2 as pb
from protos.v1.generate_pb2_grpc import GenerationServicer, add_GenerationServicer_to_server

MAX_MESSAGE_BYTES = 4 << 20
_OPTIONS = (
    # Router replicas of one node share the port.
    ("grpc.so_reuseport", 1),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 << 10),
)
_GENERATION = "/polydraft.v1.Generation/"
Context = grpc.aio.ServicerContext[pb.GenerateRequest, pb.GenerateEvent]
Write = Callable[[Event], Awaitable[None]]


class GrpcGeneration(GenerationServicer):
    """The servicer. A call that is cancelled, or whose deadline passes, closes its session."""

    def __init__(self, generation: Generation, slow_reader_s: float) -> None:
        self._generation = generation
        self._slow_reader_s = slow_reader_s

    async def GenerateStream(self, request: pb.GenerateRequest, context: Context) -> None:
        async def write(event: Event) -> None:
            if isinstance(event, Started):
                # With the event they would wait for a slow reader, and a call whose headers wait cannot be ended.
                await context.send_initial_metadata(())
            await context.write(event_to_pb(event))

        await self._answer(request, context, write)

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        events: list[pb.GenerateEvent] = []

        async def keep(event: Event) -> None:
            events.append(event_to_pb(event))

        await self._answer(request, context, keep)
        return join_events(events)

    async def _answer(self, request: pb.GenerateRequest, context: Context, write: Write) -> None:
        metadata = dict(context.invocation_metadata() or ())
        await deliver(self._generation.answer(request, metadata), write, self._slow_reader_s)


class Front:
    """The server and its health: "" serves while a target is connected, each tier's name while that tier is."""

    def __init__(self, generation: Generation, slow_reader_s: float) -> None:
        def admit(method: str, metadata: Metadata) -> None:
            if method.startswith(_GENERATION):  # health is for everyone
                generation.check_caller(metadata)

        self._server = Server(Guard(admit), _OPTIONS)
        self._health = health_aio.HealthServicer()
        add_GenerationServicer_to_server(GrpcGeneration(generation, slow_reader_s), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def start(self, host: str, port: int, tls: PemFiles | None = None) -> int:
        """Bind and serve; the port that it became."""
        bound = bind(self._server, f"{host}:{port}", tls)
        await self._server.start()
        return bound

    async def set_health(self, service: str, serving: bool) -> None:
        """What grpc.health.v1 says of a service name."""
        status = health_pb2.HealthCheckResponse
        await self._health.set(service, status.SERVING if serving else status.NOT_SERVING)

    def check_health(self) -> None:
        """Raise if no calls are taken any more."""
        self._server.check_health()

    async def stop(self, grace_s: float) -> None:
        """Take no new call; running ones have `grace_s` to end."""
        await self._server.stop(grace_s)
