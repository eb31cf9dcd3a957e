"""Runs of many calls, some at a time, with a look at the server after each batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import grpc
from google.protobuf.message import DecodeError, Message

from benchmarks.fuzz.calls import Call, Manner, Outcome, ask, open_channel
from benchmarks.fuzz.corpus import Corpus
from benchmarks.fuzz.messages import strings_of
from benchmarks.fuzz.public import Known, Method, draw_call, strange_call
from benchmarks.fuzz.verdicts import Fault, Kind, Tally

CONCURRENT, BATCH, _CHANNELS = 16, 500, 4

Checkup = Callable[[], Awaitable[list[Fault]]]
"""Looks whether the server is still there and gives its reference answers."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many messages of each method, and from which numbers they are drawn."""

    num_messages: int
    seed: int
    first: int = 0

    def batches(self, size: int = BATCH) -> Iterator[range]:
        end = self.first + self.num_messages
        return (range(begin, min(begin + size, end)) for begin in range(self.first, end, size))

    def part(self, number: int, of: int) -> Plan:
        """One of so many parts."""
        size = -(-self.num_messages // of)
        return replace(self, num_messages=size, first=self.first + number * size)

    def rng(self, method: str, index: int) -> Random:
        """What message `index` of a method is drawn from, whatever was drawn before."""
        return Random(f"{self.seed} {method} {index}")


async def fuzz_public(address: str, method: Method, known: Known, plan: Plan, checkup: Checkup) -> Tally:
    """Calls of a known caller; messages with outcomes of their own are mutated further."""
    corpus = Corpus()

    def draw(rng: Random) -> Call:
        return draw_call(rng, method, known, corpus)

    run = _Run(Tally(method.name), draw, plan, checkup, method.reply, corpus)
    await run.against(address)
    return run.tally


async def fuzz_strangers(
    address: str, tally: Tally, path: str, lawful: Callable[[Random], Message], plan: Plan, checkup: Checkup
) -> None:
    """Calls of people without key or token."""

    def draw(rng: Random) -> Call:
        return strange_call(rng, path, lawful(rng))

    await _Run(tally, draw, plan, checkup).against(address)


@dataclass(frozen=True, slots=True)
class _Run:
    tally: Tally
    draw: Callable[[Random], Call]
    plan: Plan
    checkup: Checkup
    reply: type[Message] | None = None
    """None: the caller is a stranger, and no reply may come."""
    corpus: Corpus = field(default_factory=Corpus)

    async def against(self, address: str) -> None:
        """Batch by batch, until there is nothing new to learn."""
        channels = [open_channel(address) for _ in range(_CHANNELS)]
        try:
            for batch in self.plan.batches():
                await self._batch(batch, channels)
                self.tally.faults += await self.checkup()
                if self.tally.is_hopeless:
                    break
        finally:
            for channel in channels:
                await channel.close()

    async def _batch(self, batch: range, channels: Sequence[grpc.aio.Channel]) -> None:
        waiting = iter(batch)
        learned: dict[int, tuple[bytes, Outcome]] = {}

        async def work(channel: grpc.aio.Channel) -> None:
            for index in waiting:
                call = self.draw(self.plan.rng(self.tally.method, index))
                outcome = await ask(channel, call)
                self._count(index, call, outcome)
                if call.manner is Manner.WHOLE and len(call.messages) == 1:
                    learned[index] = (call.messages[0], outcome)

        await asyncio.gather(*(work(channels[number % _CHANNELS]) for number in range(CONCURRENT)))
        for _, (message, outcome) in sorted(learned.items()):  # in order, so that the same seed draws the same messages
            if outcome.status is not None:
                self.corpus.add(message, outcome.status.name, outcome.detail)

    def _count(self, index: int, call: Call, outcome: Outcome) -> None:
        told: list[str] = []
        if self.reply is not None:
            try:
                told = [text for data in outcome.replies for text in strings_of(self.reply.FromString(data))]
            except DecodeError:
                self.tally.faults.append(Fault(Kind.WRONG, "a reply that cannot be decoded", index))
        self.tally.count(index, call, outcome, told, is_known=self.reply is not None)
