"""Stands between a router and a replica, where messages of their stream can be altered, repeated and made up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import grpc

from cluster.messages import Message
from deployments.convert import frame_from_pb, frame_to_pb
from deployments.directory import Registration
from protos.v1 import internal_pb2 as pb
from protos.v1.internal_pb2_grpc import (
    DrafterStub,
    TargetStub,
    add_DrafterServicer_to_server,
    add_TargetServicer_to_server,
)

Alter = Callable[[Message], Sequence[Message]]
"""What to pass on instead of a message."""
Context = grpc.aio.ServicerContext[pb.Frame, pb.Frame]


def unaltered(message: Message) -> Sequence[Message]:
    return [message]


class FrameProxy:
    """`alter` sees what goes either way; it may be set while streams run."""

    def __init__(self, stub: TargetStub | DrafterStub) -> None:
        self._stub = stub
        self.alter: Alter = unaltered

    async def Sessions(self, frames: AsyncIterator[pb.Frame], context: Context) -> AsyncIterator[pb.Frame]:
        call = self._stub.Sessions(metadata=tuple(context.invocation_metadata() or ()))
        passing = asyncio.create_task(self._pass(frames, call))
        try:
            async for frame in call:
                yield self._altered(frame)
        finally:
            passing.cancel()
            call.cancel()

    async def _pass(self, frames: AsyncIterator[pb.Frame], call: grpc.aio.StreamStreamCall[pb.Frame, pb.Frame]) -> None:
        async for frame in frames:
            await call.write(self._altered(frame))

    def _altered(self, frame: pb.Frame) -> pb.Frame:
        return frame_to_pb([altered for message in frame_from_pb(frame) for altered in self.alter(message)])


@asynccontextmanager
async def proxy_before(registration: Registration) -> AsyncIterator[tuple[FrameProxy, str]]:
    """The proxy of a replica, and the address of the proxy."""
    server = grpc.aio.server()
    async with grpc.aio.insecure_channel(registration.address) as channel:
        if registration.kind == "target":
            proxy = FrameProxy(TargetStub(channel))
            add_TargetServicer_to_server(proxy, server)
        else:
            proxy = FrameProxy(DrafterStub(channel))
            add_DrafterServicer_to_server(proxy, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield proxy, f"127.0.0.1:{port}"
        finally:
            await server.stop(None)
