"""A router's end of an internal stream, for tests of what stands at the other end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc

from cluster.messages import TOKEN_METADATA, Heartbeat, Hello, Message
from deployments.convert import frame_from_pb, frame_to_pb
from protos.v1 import internal_pb2 as pb
from protos.v1.internal_pb2_grpc import DrafterStub, TargetStub

TOKEN = "secret"


class Router:
    """The other end of a stream."""

    channel: grpc.aio.Channel
    """Set by `serve`, for further streams."""

    def __init__(self, stub: TargetStub | DrafterStub, token: str = TOKEN) -> None:
        self._waiting: list[Message] = []
        self.call = stub.Sessions(metadata=((TOKEN_METADATA, token),))

    async def send(self, *messages: Message) -> None:
        await self.call.write(frame_to_pb(messages))

    async def receive(self) -> Message:
        """The next message that is no heartbeat."""
        while not self._waiting:
            frame = await self.call.read()
            assert isinstance(frame, pb.Frame), "the stream ended"
            self._waiting += [message for message in frame_from_pb(frame) if not isinstance(message.body, Heartbeat)]
        return self._waiting.pop(0)

    async def greet(self, router_id: str = "router-1") -> None:
        await self.send(Message(0, 0, Hello(router_id)))
        assert isinstance((await self.receive()).body, Hello)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)
