"""A router is killed while answers are open through it: what it leaves behind at the replicas, and for how long."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.chaos.traffic import DEADLINE_S, Question, Reply, Stream, reply_to
from benchmarks.chaos.victims import Kind, ready
from benchmarks.soak.observer import POLL_S, Observer
from cluster.config import LimitsConfig
from polydraft import AsyncClient, PolydraftError

NUM_STREAMS = 16


@dataclass(slots=True)
class Orphans:
    """What was seen after a router's end."""

    num_seen: int = 0
    """Sessions at targets beyond those of open streams, at most."""
    gone_after_s: float = 0.0
    """Until no more sessions were seen, at targets or drafters, than streams were open."""
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Streams:
    """How many are open, and how many were lately: heartbeats are late."""

    memory_s: float
    num_open: int = 0
    _past: list[tuple[float, int]] = field(default_factory=list)

    def lately(self, now_s: float) -> int:
        """The most within `memory_s`."""
        self._past = [(at_s, number) for at_s, number in self._past if at_s > now_s - self.memory_s]
        self._past.append((now_s, self.num_open))
        return max(number for _, number in self._past)


async def kill_a_router(
    address: str,
    routers: Kind,
    observer: Observer,
    limits: LimitsConfig,
    asked: Sequence[Question],
    expected: Sequence[Reply],
    seed: int,
) -> Orphans:
    """Ask the longest questions, kill a router once all answers have begun, and watch what is held."""
    found = Orphans()
    longest = sorted(asked, key=lambda question: -expected[question.number].completion_tokens)[:NUM_STREAMS]
    streams = _Streams(2 * limits.heartbeat_s)
    begun = [Stream() for _ in longest]

    async def ask(question: Question, stream: Stream) -> None:
        async with AsyncClient(address, timeout_s=DEADLINE_S) as client:
            streams.num_open += 1
            try:
                if await reply_to(client, question, stream) != expected[question.number]:
                    found.problems.append(f"question {question.number}: another answer after the router's end")
            except PolydraftError as error:
                found.problems.append(f"question {question.number}: {error.code}: {error}")
            finally:
                streams.num_open -= 1

    victim = random.Random(seed).choice(sorted(ready(routers), key=lambda process: process.pid))
    async with asyncio.TaskGroup() as asking:
        tasks = [asking.create_task(ask(*both)) for both in zip(longest, begun, strict=True)]
        while any(len(stream.arrivals_s) < 3 and not task.done() for stream, task in zip(begun, tasks, strict=True)):
            await asyncio.sleep(0.01)
        os.kill(victim.pid, signal.SIGKILL)
        await _watch(observer, streams, limits, found)
    if not found.num_seen:
        found.problems.append("the killed router left nothing behind; its end was not seen")
    return found


async def _watch(observer: Observer, streams: _Streams, limits: LimitsConfig, found: Orphans) -> None:
    """Until what is left would have been seen by every clock: replicas look twice a heartbeat, we hear one later."""
    bound_s = limits.lease_s + 2 * limits.heartbeat_s
    begin_s = time.monotonic()
    while (elapsed_s := time.monotonic() - begin_s) < bound_s + 2 * limits.heartbeat_s:
        held, num_open = observer.held(), streams.lately(time.monotonic())
        found.num_seen = max(found.num_seen, held.target_sessions - num_open)
        if max(held.target_sessions, held.drafter_sessions) > num_open:
            found.gone_after_s = elapsed_s
        await asyncio.sleep(POLL_S)
    if found.gone_after_s > bound_s:
        found.problems.append(f"orphans were seen for {found.gone_after_s:.1f} s; a lease is {limits.lease_s:g} s")
