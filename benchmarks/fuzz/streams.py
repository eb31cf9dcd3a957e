"""Fuzzed conversations with a replica on its internal stream, by somebody who has the token."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from random import Random

import grpc
from google.protobuf.message import DecodeError

from benchmarks.fuzz.calls import HANG_S, Outcome, open_channel
from benchmarks.fuzz.frames import Canon, Conversation, greeting
from benchmarks.fuzz.internals import leak
from benchmarks.fuzz.messages import strings_of
from benchmarks.fuzz.one_process import TOKEN
from benchmarks.fuzz.runs import Checkup, Plan
from benchmarks.fuzz.verdicts import LAWFUL, Fault, Kind, Tally
from cluster.messages import TOKEN_METADATA
from deployments.trees import tree_from_bytes
from protos.v1 import internal_pb2 as pb
from protos.v1 import types_pb2

STREAMS, CONCURRENT = 16, 4
"""Of a batch; and at the same time."""
_FRAMES = (1, 5, 20, 60)
_PATIENCE_S = 0.1
"""So long at most some frames wait for what the replica says to the one before."""


@dataclass(slots=True)
class _Stream:
    """One conversation and what was wrong with it."""

    index: int
    talk: Conversation
    rng: Callable[[int], Random]
    """What frame so-and-so is drawn from; 0 is the greeting."""
    num_frames: int = 1
    faults: list[Fault] = field(default_factory=list)
    outcome: Outcome = field(default_factory=lambda: Outcome(None))
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    """The replica has said something, or ended the stream."""

    def fail(self, kind: Kind, what: str) -> None:
        self.faults.append(Fault(kind, what, self.index))


async def fuzz_streams(address: str, path: str, canon: Canon, plan: Plan, checkup: Checkup) -> Tally:
    """Streams until there were enough messages. Numbers of messages are those of streams here."""
    tally = Tally(path.strip("/").partition(".v1.")[2])
    first = plan.first
    async with open_channel(address) as channel:
        while tally.num_messages < plan.num_messages and not tally.is_hopeless:
            waiting = iter(range(first, first + STREAMS))
            await asyncio.gather(*(_work(channel, path, canon, plan, tally, waiting) for _ in range(CONCURRENT)))
            first += STREAMS
            tally.faults += await checkup()
    return tally


async def _work(
    channel: grpc.aio.Channel, path: str, canon: Canon, plan: Plan, tally: Tally, waiting: Iterator[int]
) -> None:
    """One stream after the other."""
    for number in waiting:
        stream = _Stream(number, Conversation(canon), partial(plan.rng, f"{tally.method} {number}"))
        await _converse(channel.stream_stream(path)(metadata=((TOKEN_METADATA, TOKEN),)), stream)
        tally.num_messages += stream.num_frames
        tally.statuses[stream.outcome.name] += 1
        tally.faults += stream.faults


async def _converse(call: grpc.aio.StreamStreamCall[bytes, bytes], stream: _Stream) -> None:
    """Greet, talk, and end in some way."""
    says_goodbye = stream.rng(0).random() < 0.6
    listening = asyncio.create_task(_listen(call, stream))
    try:
        async with asyncio.timeout(HANG_S):
            await _speak(call, stream)
            if says_goodbye:
                await listening
            else:
                call.cancel()
            stream.outcome = Outcome(await call.code(), await call.details() or "")
            _judge_end(stream, left=not says_goodbye)
    except TimeoutError:
        stream.fail(Kind.HANG, "the stream did not end")
    finally:
        call.cancel()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def _speak(call: grpc.aio.StreamStreamCall[bytes, bytes], stream: _Stream) -> None:
    """A greeting and some frames, each drawn for itself: what was heard meanwhile changes little of the next."""
    rng = stream.rng(0)
    frames = rng.choice(_FRAMES)
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the replica has ended the stream
        # No mutation makes it another stream's: two streams of one name are one router's, and share its sessions.
        await call.write(greeting(rng, f"router-{rng.getrandbits(64):016x}"))
        await stream.answered.wait()
        for number in range(frames):
            rng = stream.rng(1 + number)
            stream.num_frames += 1
            stream.answered.clear()
            await call.write(stream.talk.say(rng))
            if rng.random() < 0.5:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stream.answered.wait(), _PATIENCE_S)
        await call.done_writing()


async def _listen(call: grpc.aio.StreamStreamCall[bytes, bytes], stream: _Stream) -> None:
    try:
        while (data := await call.read()) is not grpc.aio.EOF:
            stream.answered.set()
            assert isinstance(data, bytes)
            try:
                messages = pb.Frame.FromString(data).messages
            except DecodeError:
                stream.fail(Kind.WRONG, "a frame that cannot be decoded")
                continue
            for message in messages:
                stream.talk.hear(message)
                _judge(stream, message)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass  # the status tells
    finally:
        stream.answered.set()


def _judge(stream: _Stream, message: pb.Message) -> None:
    """What a replica may not say."""
    for text in strings_of(message):
        if words := leak(text):
            stream.fail(Kind.LEAK, f"{words!r} in {text}")
    match message.WhichOneof("body"):
        case "verdict":
            _judge_verdict(stream, message, message.verdict)
        case "block":
            tree = tree_from_bytes(message.block.tree)
            problem = "no tree" if tree is None else tree.problem(stream.talk.canon.vocab_size)
            if problem:
                stream.fail(Kind.WRONG, f"a block with {problem}")
        case "close" if message.close.error == types_pb2.ERROR_CODE_INTERNAL:
            stream.fail(Kind.CRASH, f"session {message.session}: {message.close.error_message}")


def _judge_verdict(stream: _Stream, message: pb.Message, verdict: pb.Verdict) -> None:
    if verdict.length != verdict.base_length + len(verdict.token_ids):
        stream.fail(Kind.WRONG, f"a verdict of length {verdict.length} behind {verdict.base_length}")
    if stream.talk.is_canonical(message):
        canon = stream.talk.canon
        begin = verdict.base_length - len(canon.open.token_ids)
        expected = canon.answer[begin : begin + len(verdict.token_ids)]
        if tuple(verdict.token_ids) != expected:
            stream.fail(Kind.WRONG, f"session {message.session}: {list(verdict.token_ids)} instead of {expected}")


def _judge_end(stream: _Stream, *, left: bool) -> None:
    outcome = stream.outcome
    if words := leak(outcome.detail):
        stream.fail(Kind.LEAK, f"{words!r} in {outcome.detail}")
    own = grpc.StatusCode.CANCELLED if left else None
    if outcome.status not in LAWFUL and outcome.status is not own and not outcome.is_cut_off:
        stream.fail(Kind.CRASH, f"{outcome.status}: {outcome.detail}")
