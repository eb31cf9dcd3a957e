"""Callers of several tenants, each asking again as soon as its last call is over."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.chaos.traffic import DEADLINE_S, Question, Reply
from benchmarks.soak.manners import MANNERS, Call, Different, Manner, with_options
from cluster.config import Config
from polydraft import AsyncClient, Overloaded, PolydraftError

TENANTS = {
    "heavy": ("weight=4.0",),
    "narrow": ("max_concurrent=2",),
    "paced": ("output_tokens_per_minute=3000",),
}
"""What is configured of each; the default tenant is one more."""
AT_LIMITS = frozenset({"narrow", "paced"})
"""These may be refused for asking too much."""


@dataclass(slots=True)
class Callers:
    """Who asks, what, and what became of it."""

    address: str
    config: Config
    asked: Sequence[Question]
    expected: Sequence[Reply]
    """Of each question, by its number."""
    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    async def run(self, num_streams: int, stop: asyncio.Event) -> None:
        """As many callers at a time, until `stop` is set and their last calls are over."""
        async with asyncio.TaskGroup() as callers:
            for number in range(num_streams):
                callers.create_task(self._call_again_and_again(number, stop))

    async def _call_again_and_again(self, number: int, stop: asyncio.Event) -> None:
        chosen = random.Random(f"{self.seed} {number}")
        tenant = (None, *TENANTS)[number % (1 + len(TENANTS))]
        async with AsyncClient(self.address, tenant, timeout_s=DEADLINE_S) as client:
            while not stop.is_set():
                (manner,) = chosen.choices([*MANNERS], [*MANNERS.values()])
                question = chosen.choice(self.asked)
                question = with_options(question, speculation=chosen.choice(["auto", "off", *self.config.drafters]))
                reader_s = self.config.limits.slow_reader_s
                expected = self.expected[question.number]
                await self._count(manner, Call(self.address, tenant, client, question, expected, reader_s, chosen))

    async def _count(self, manner: Manner, call: Call) -> None:
        name = manner.__name__.replace("_", " ")
        try:
            await manner(call)
            self.outcomes[name] += 1
        except Overloaded as error:
            self.outcomes["over a tenant's limit"] += 1
            if call.tenant not in AT_LIMITS:
                self.problems.append(f"{name}, question {call.question.number}: {error}")
            await asyncio.sleep(error.retry_after_s or 0.1)
        except (PolydraftError, Different) as error:
            self.problems.append(f"{name}, question {call.question.number}: {type(error).__name__}: {error}")
