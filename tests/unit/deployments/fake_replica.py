"""A real gRPC server on loopback that speaks the internal protocol, with answers that the test writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc

from cluster.messages import Hello, Message
from deployments.convert import frame_from_pb, frame_to_pb
from protos.v1 import internal_pb2 as pb

TOKEN = "secret"
HELLO = Hello(peer_id="t1", target_id="target", tokenizer_hash="hash", numerics_id="n1")


class FakeReplica:
    """Greets with `hello`; keeps what it receives; `say` sends to the latest stream."""

    def __init__(self, hello: Hello = HELLO) -> None:
        self.hello = hello
        self.router_ids: list[str] = []
        self.received: asyncio.Queue[Message] = asyncio.Queue()
        self.frame_sizes: list[int] = []
        self._outgoing: asyncio.Queue[Message | bytes | None] = asyncio.Queue()
        self._server = grpc.aio.server()
        method = grpc.stream_stream_rpc_method_handler(
            self.Sessions, request_deserializer=pb.Frame.FromString, response_serializer=lambda data: data
        )
        handler = grpc.method_handlers_generic_handler("polydraft.v1.Target", {"Sessions": method})
        self._server.add_generic_rpc_handlers((handler,))
        self.port = 0

    async def start(self) -> str:
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()
        return f"127.0.0.1:{self.port}"

    async def stop(self) -> None:
        await self._server.stop(None)

    def say(self, *messages: Message | bytes) -> None:
        """Bytes go out as they are."""
        for message in messages:
            self._outgoing.put_nowait(message)

    def hang_up(self) -> None:
        """End the present stream."""
        self._outgoing.put_nowait(None)

    async def Sessions(
        self, frames: AsyncIterator[pb.Frame], context: grpc.aio.ServicerContext[pb.Frame, pb.Frame]
    ) -> AsyncIterator[bytes]:
        if dict(context.invocation_metadata() or ()).get("polydraft-token") != TOKEN:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the cluster token is missing or wrong")
        self._outgoing = asyncio.Queue()
        self._outgoing.put_nowait(Message(0, 0, self.hello))
        reader = asyncio.create_task(self._read(frames))
        try:
            while (message := await self._outgoing.get()) is not None:
                yield message if isinstance(message, bytes) else frame_to_pb([message]).SerializeToString()
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
