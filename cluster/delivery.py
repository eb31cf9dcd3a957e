"""From the session loop to a caller that may read slowly or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from cluster.errors import Cancelled

T = TypeVar("T")


async def deliver(events: AsyncGenerator[T, None], write: Callable[[T], Awaitable[None]], slow_reader_s: float) -> None:
    """Write each event before the next is asked for; Cancelled when one write takes longer than `slow_reader_s`.

    However it ends, the session behind `events` is closed.
    """
    async with aclosing(events):
        async for event in events:
            try:
                async with asyncio.timeout(slow_reader_s):
                    await write(event)
            except TimeoutError:
                raise Cancelled(f"nothing was read for {slow_reader_s:g} s; read the stream or ask for less") from None
