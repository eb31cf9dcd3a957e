"""The events of several answers as one stream, with nothing held back that would not be held back of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from cluster.events import Event, Started

Events = AsyncGenerator[Event, None]
Told = tuple[int, Event]
"""A choice's index, and what it tells."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of a request."""

    index: int
    group: int
    """Choices of one group have the same prompt."""
    events: Events


async def interleaved(choices: Sequence[Choice]) -> AsyncGenerator[Told, None]:
    """What all choices tell, as it comes; the first failure ends all.

    The first choice of a group begins at once, the others when it has its first tokens: they find the prompt's KV.
    """
    if len(choices) == 1:
        async with aclosing(choices[0].events) as events:
            async for event in events:
                yield choices[0].index, event
        return
    told = _Told()
    has_read = {choice.group: asyncio.Event() for choice in choices}
    leaders = {choice.group: choice for choice in reversed(choices)}
    tasks = [
        asyncio.create_task(_tell(choice, told, has_read[choice.group], leads=leaders[choice.group] is choice))
        for choice in choices
    ]
    try:
        num_open = len(choices)
        while num_open:
            match await told.get():
                case None:
                    num_open -= 1
                case Exception() as error:
                    raise error
                case item:
                    yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Told:
    """What the choices have told. One place: who reads slowly slows all; taken in turns, as a queue alone is not."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Told | Exception | None] = asyncio.Queue(1)
        self._turn = asyncio.Lock()
        self.get = self._queue.get

    async def put(self, item: Told | Exception | None) -> None:
        async with self._turn:
            await self._queue.put(item)


async def _tell(choice: Choice, told: _Told, has_read: asyncio.Event, *, leads: bool) -> None:
    try:
        async with aclosing(choice.events) as events:
            if not leads:
                await has_read.wait()
            async for event in events:
                await told.put((choice.index, event))
                if not isinstance(event, Started):
                    has_read.set()
        await told.put(None)
    except Exception as error:  # for whoever reads
        await told.put(error)
