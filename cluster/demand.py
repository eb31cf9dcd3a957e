"""What the replicas of a tier measure, and how many replicas it asks for. Pure.

A demand is in replicas and need not be whole: the sum over replicas of a load over what a replica should bear. It does
not depend on over how many replicas the load is spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.scaling_config import DrafterScaling, RouterScaling, TargetScaling

BUSY = 0.5
"""A drafter that works less than this is not late for want of time."""
DRAIN_S = 60.0
"""A queue of prompts asks for so much more that it would be read in this time."""


@dataclass(frozen=True, slots=True)
class TargetSignals:
    """Of one target replica, means over some seconds."""

    sessions: float
    """Over its places; those that wait for one count, so it may exceed 1."""
    kv: float
    """Share of its pages that sessions hold."""
    prefilling: float
    """Share of the time in which prompts waited to be read."""
    prefill_s: float
    """How long it would take to read those that wait."""


@dataclass(frozen=True, slots=True)
class DrafterSignals:
    """Of one drafter replica, means over some seconds."""

    sessions: float
    """That are open, whether they ask for blocks or not."""
    asking: float
    """Of these, the ones that asked for blocks: its backlog, one block each a round."""
    busy: float
    """Share of the time in which it drafted."""
    late: float
    """Share of its blocks that came too late."""


def target_demand(replicas: Sequence[TargetSignals], aims: TargetScaling) -> float | None:
    """None if no replica has told anything."""
    if not replicas:
        return None
    return max(
        sum(one.sessions for one in replicas) / aims.sessions,
        sum(one.kv for one in replicas) / aims.kv,
        sum(one.prefilling + one.prefill_s / DRAIN_S for one in replicas) / aims.prefill,
    )


def drafter_demand(replicas: Sequence[DrafterSignals], aims: DrafterScaling) -> float | None:
    """None if no replica has told anything, 0 if so few sessions are open that the drafter may rest.

    Load is the number of sessions that ask. How busy a replica is, or how many blocks wait at a moment, says less: it
    drafts for all that wait together, so one that is always busy may still bear many more, and what waits shrinks
    faster than the number of replicas grows, which would make that number swing.
    """
    if not replicas:
        return None
    if sum(one.sessions for one in replicas) < aims.wake_streams / 2:
        return 0.0
    load = sum(one.asking for one in replicas) / aims.sessions
    # Blocks of a drafter that is mostly idle are late for another reason, such as the network.
    late = sum(one.late for one in replicas if one.busy >= BUSY) / len(replicas)
    if late > aims.late:
        load = max(load, len(replicas) * (1 + late))
    return max(load, 0.01)  # somebody asks: one replica


def router_demand(streams: Sequence[float], max_streams: int, aims: RouterScaling) -> float | None:
    """From the open streams of each router; None if none has told anything."""
    return sum(streams) / (max_streams * aims.streams) if streams else None
