"""One call as raw bytes, in a manner that no generated stub allows, and how it ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import Enum

import grpc

HANG_S = 60.0
"""A call that has not ended by then hangs: answers are short, and nothing here waits for a replica."""
_NO_LIMIT = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)

_CUT_OFF = "Internal error from Core"
"""The detail that grpc.aio makes up on our side, with status INTERNAL, when the server ended a call before a write. So
what the server said is lost."""

Metadata = tuple[tuple[str, str | bytes], ...]
RawStream = grpc.aio.UnaryStreamCall[bytes, bytes] | grpc.aio.StreamStreamCall[bytes, bytes]


class Manner(Enum):
    """How the caller behaves."""

    WHOLE = "sends its messages, says that it has done, reads to the end"
    OPEN_ENDED = "never says that it has done"
    CANCEL = "leaves at some moment"
    DEADLINE = "gives the server next to no time"

    @property
    def is_patient(self) -> bool:
        """Whether the server must end the call."""
        return self in (Manner.WHOLE, Manner.OPEN_ENDED)


@dataclass(frozen=True, slots=True)
class Call:
    """What is sent, and how."""

    path: str
    messages: tuple[bytes, ...]
    metadata: Metadata = ()
    manner: Manner = Manner.WHOLE
    wait_s: float = 0.0
    """Until the caller leaves, or its deadline."""
    max_replies: int = 1_000
    """After so many the caller has heard enough and leaves."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended. `status` is None if it did not."""

    status: grpc.StatusCode | None
    detail: str = ""
    trailing: str = ""
    replies: list[bytes] = field(default_factory=list)
    heard_enough: bool = False

    @property
    def is_cut_off(self) -> bool:
        """Whether the server ended the call while we still wrote."""
        return self.detail == _CUT_OFF

    @property
    def name(self) -> str:
        """For people."""
        if self.status is None:
            return "no end"
        return "cut off" if self.is_cut_off else self.status.name


def open_channel(address: str) -> grpc.aio.Channel:
    """A connection of its own, without limits on our side."""
    return grpc.aio.insecure_channel(address, options=_NO_LIMIT)


async def ask(channel: grpc.aio.Channel, call: Call) -> Outcome:
    """Make a call and wait for its end."""
    timeout_s = call.wait_s if call.manner is Manner.DEADLINE else None
    stream: RawStream
    if len(call.messages) == 1 and call.manner is not Manner.OPEN_ENDED:
        # All in one go: nothing is written to a call that has ended, so that its status is never lost.
        whole: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(call.path)
        stream = whole(call.messages[0], metadata=call.metadata, timeout=timeout_s)
    else:
        stream = channel.stream_stream(call.path)(metadata=call.metadata, timeout=timeout_s)
    replies: list[bytes] = []
    leaving = (
        asyncio.get_running_loop().call_later(call.wait_s, stream.cancel) if call.manner is Manner.CANCEL else None
    )
    try:
        async with asyncio.timeout(HANG_S):
            heard_enough = await _talk(stream, call, replies)
            trailing = " ".join(f"{key}={value!r}" for key, value in await stream.trailing_metadata() or ())
            return Outcome(await stream.code(), await stream.details() or "", trailing, replies, heard_enough)
    except TimeoutError:
        stream.cancel()
        return Outcome(None, replies=replies)
    finally:
        if leaving is not None:
            leaving.cancel()


async def _talk(stream: RawStream, call: Call, replies: list[bytes]) -> bool:
    """Send all, read to the end; True if the end was not waited for."""
    writer = asyncio.create_task(_write(stream, call))
    try:
        while (reply := await stream.read()) is not grpc.aio.EOF:
            assert isinstance(reply, bytes)
            replies.append(reply)
            if len(replies) >= call.max_replies:
                stream.cancel()
                return True
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass  # the status tells
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():  # else it was the call, whatever status came before that
            raise
    finally:
        writer.cancel()
    return False


async def _write(stream: RawStream, call: Call) -> None:
    if isinstance(stream, grpc.aio.UnaryStreamCall):
        return
    try:
        for message in call.messages:
            await stream.write(message)
        if call.manner is not Manner.OPEN_ENDED:
            await stream.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass  # the server has ended the call before it had all
