"""How many replicas a tier should have, from its demand over time. Pure: the clock is an argument.

Demand is a number of replicas that need not be whole (`cluster.demand`). Replicas are added once demand has exceeded
them for `up_delay_s`, for the least of what was wanted meanwhile. They are taken away once demand with some slack has
been lower for `down_delay_s`, down to the most that was wanted meanwhile. A gap lies between both, so a signal that
stays where it is, or shakes a little, moves nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SLACK = 0.1
"""Replicas end only if the others would have this much to spare."""
GROWTH = 2.0
"""At most so many times as many replicas at once: starting is slow, and what was wanted is measured again meanwhile."""
_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one tier."""

    min_replicas: int
    max_replicas: int
    up_delay_s: float = 0.0
    down_delay_s: float = 0.0
    zero_delay_s: float = 0.0
    """Instead of `down_delay_s` for the last replica, which ends only if `min_replicas` is 0."""


@dataclass(frozen=True, slots=True)
class ScalingState:
    """What is remembered from one decision to the next."""

    above_since: float | None = None
    """Since when more replicas have been wanted than there are."""
    least_above: int = 0
    """The fewest that were wanted in that time."""
    peaks: tuple[tuple[float, int], ...] = ()
    """(time, replicas wanted with slack): what was most since then, oldest first, so the numbers fall."""
    since: float | None = None
    """When the first demand was heard, or the number last changed."""


def decide(
    demand: float | None, replicas: int, limits: Limits, state: ScalingState, now: float
) -> tuple[int, ScalingState]:
    """The number of replicas that the tier should have instead of `replicas`, and the state for the next decision.

    Without a demand (no replica has told anything) the number stays.
    """
    bounded = _bounded(replicas, limits)
    if bounded != replicas:
        return bounded, ScalingState(since=now)
    if demand is None:
        return replicas, state
    since = now if state.since is None else state.since
    wanted, with_slack = _wanted(demand, limits), _wanted(demand * (1 + SLACK), limits)
    peaks = _with_peak(state.peaks, now, with_slack, max(limits.down_delay_s, limits.zero_delay_s))
    if wanted > replicas:
        above_since = now if state.above_since is None else state.above_since
        least = wanted if state.above_since is None else min(wanted, state.least_above)
        if now - above_since >= limits.up_delay_s:
            most = max(replicas + 1, math.floor(replicas * GROWTH))
            return min(least, most), ScalingState(peaks=peaks, since=now)
        return replicas, ScalingState(above_since, least, peaks, since)
    fewer = _fewer(replicas, peaks, limits, since, now)
    return fewer, ScalingState(peaks=peaks, since=since if fewer == replicas else now)


def _fewer(replicas: int, peaks: tuple[tuple[float, int], ...], limits: Limits, since: float, now: float) -> int:
    """What remains when replicas that were not wanted for the whole delay end."""
    delay_s = limits.zero_delay_s if replicas == 1 else limits.down_delay_s
    if now - since < delay_s:
        return replicas
    most = max(number for time, number in peaks if time >= now - delay_s)
    # All but the last may end at once; the last has a delay of its own.
    return min(replicas, most if replicas == 1 else max(most, 1))


def _wanted(demand: float, limits: Limits) -> int:
    return _bounded(math.ceil(demand - _EPSILON), limits)


def _bounded(replicas: int, limits: Limits) -> int:
    return max(limits.min_replicas, min(limits.max_replicas, replicas))


def _with_peak(
    peaks: tuple[tuple[float, int], ...], now: float, number: int, window_s: float
) -> tuple[tuple[float, int], ...]:
    """Forget what is older than the window, and what was no more than the newest."""
    return (*((time, peak) for time, peak in peaks if peak > number and time >= now - window_s), (now, number))
