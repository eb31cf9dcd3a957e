"""A seeded schedule of faults, carried out one by one on processes that are ready."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.chaos.victims import Kind, Replacements, candidates, ready
from deployments.processes import Process

QUIET_S = 3.0
"""Between a kind's return and the next fault."""
PATIENCE_S = 30.0
"""A kind that is not back after so long is not waited for."""
_POLL_S = 0.05
STALLS_S = (2.0, 8.0)
"""Shorter and longer than a lease."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What to do to one process of a kind; 0 seconds: kill it."""

    kind: str
    stall_s: float = 0.0

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.kind}, stalled for {self.stall_s:g} s" if self.stall_s else f"{self.kind}, killed"


@dataclass(frozen=True, slots=True)
class Event:
    """A fault that happened."""

    name: str
    """Of the fault."""
    at_s: float
    """On the clock of `time.monotonic`."""
    whole_after_s: float | None
    """Until all was there again; None: not within the patience."""


def schedule(kinds: Sequence[str], kills: int, stalls: int, seed: int) -> list[Fault]:
    """So many kills and stalls of each kind, in an order of the seed's."""
    chosen = random.Random(seed)
    faults = [Fault(kind) for kind in kinds for _ in range(kills)]
    faults += [Fault(kind, chosen.choice(STALLS_S)) for kind in kinds for _ in range(stalls)]
    chosen.shuffle(faults)
    return faults


async def carry_out(faults: Sequence[Fault], kinds: Mapping[str, Kind], seed: int) -> AsyncIterator[Event]:
    """Each fault in turn, on a process of its kind that is ready."""
    chosen = random.Random(seed)
    await _wait_for_all(kinds)
    for fault in faults:
        kind = kinds[fault.kind]
        while not (found := candidates(kind)):
            await asyncio.sleep(_POLL_S)
        victim = chosen.choice(sorted(found, key=lambda process: process.pid))
        replacements, before = Replacements(kind), ready(kind)
        at_s = time.monotonic()
        await _strike(victim, fault)
        yield Event(fault.name, at_s, await _wait_until_whole(kind, replacements, before, fault, at_s))
        await asyncio.sleep(QUIET_S)


async def _wait_for_all(kinds: Mapping[str, Kind]) -> None:
    """Return when all have been up for a while, and with that all callers have reached the cluster.

    One that never has is told of a lost router at once, as it would be of a wrong address.
    """
    whole_since_s = time.monotonic()
    while time.monotonic() < whole_since_s + QUIET_S:
        if any(len(ready(kind)) < kind.count for kind in kinds.values()):
            whole_since_s = time.monotonic()
        await asyncio.sleep(_POLL_S)


async def _strike(victim: Process, fault: Fault) -> None:
    if fault.stall_s == 0:
        os.kill(victim.pid, signal.SIGKILL)
        return
    os.kill(victim.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(fault.stall_s)
    finally:
        if victim.is_alive:  # Serve replaces what does not answer
            os.kill(victim.pid, signal.SIGCONT)


async def _wait_until_whole(
    kind: Kind, replacements: Replacements, before: Sequence[Process], fault: Fault, at_s: float
) -> float | None:
    while time.monotonic() < at_s + PATIENCE_S:
        found = replacements.look()
        is_hit = fault.stall_s > 0 or any(process not in found for process in before)
        if is_hit and len(found) >= kind.count:
            return time.monotonic() - at_s
        await asyncio.sleep(_POLL_S)
    return None
