"""A real gRPC server on loopback that speaks the internal protocol, with answers that the test writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc

from cluster.messages import Hello, Message
from deployments.convert import frame_from_pb, frame_to_pb
from protos.v1 import internal_pb2 as pb
from protos.v1.internal_pb2_grpc import TargetServicer, add_TargetServicer_to_server

TOKEN = "secret"
HELLO = Hello(peer_id="t1", target_id="target", tokenizer_hash="hash", numerics_id="n1")


class FakeReplica(TargetServicer):
    """Greets with `hello`; keeps what it receives; `say` sends to the latest stream."""

    def __init__(self, hello: Hello = HELLO) -> None:
        self.hello = hello
        self.router_ids: list[str] = []
        self.received: asyncio.Queue[Message] = asyncio.Queue()
        self.frame_sizes: list[int] = []
        self._outgoing: asyncio.Queue[Message | None] = asyncio.Queue()
        self._server = grpc.aio.server()
        add_TargetServicer_to_server(self, self._server)
        self.port = 0

    async def start(self) -> str:
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()
        return f"127.0.0.1:{self.port}"

    async def stop(self) -> None:
        await self._server.stop(None)

    def say(self, *messages: Message) -> None:
        for message in messages:
            self._outgoing.put_nowait(message)

    def hang_up(self) -> None:
        """End the present stream."""
        self._outgoing.put_nowait(None)

    async def Sessions(
        self, frames: AsyncIterator[pb.Frame], context: grpc.aio.ServicerContext[pb.Frame, pb.Frame]
    ) -> AsyncIterator[pb.Frame]:
        if dict(context.invocation_metadata() or ()).get("polydraft-token") != TOKEN:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the cluster token is missing or wrong")
        self._outgoing = asyncio.Queue()
        reader = asyncio.create_task(self._read(frames))
        yield frame_to_pb([Message(0, 0, self.hello)])
        try:
            while (message := await self._outgoing.get()) is not None:
                yield frame_to_pb([message])
        finally:
            reader.cancel()

    async def _read(self, frames: AsyncIterator[pb.Frame]) -> None:
        async for frame in frames:
            messages = frame_from_pb(frame)
            self.frame_sizes.append(len(messages))
            for message in messages:
                if isinstance(message.body, Hello):
                    self.router_ids.append(message.body.peer_id)
                else:
                    self.received.put_nowait(message)
