"""Who decides over the simulated tiers: the code of `cluster/`, Serve's plain policy, or nobody.

Deployment 0 is the target, the others are the drafters of the languages. [S, D]: simulated days and deployments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from benchmarks.autoscale.traffic import BIN_S, Floats
from cluster.demand import DrafterSignals, TargetSignals, drafter_demand, target_demand
from cluster.scaling import ScalingState, decide
from cluster.scaling_config import DrafterScaling, TargetScaling

MOST = 10_000
DECIDE_S = 20
"""Serve decides ten times a second, on signals of some seconds; here on those of the last ten, every twenty."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the tiers tell after ten seconds; sums over the replicas."""

    target_SF: Floats
    """The fields of TargetSignals."""
    drafters_SLF: Floats
    """The fields of DrafterSignals; of the last, the share, not the sum."""
    streams_SL: Floats
    """Open streams of each language, at the routers."""
    drafts_pay_S: Floats
    """Whether targets ask for drafts."""


class Policy(Protocol):
    """One for all days, which may have other settings each."""

    def decide(self, seen: Seen, wanted_SD: Floats, up_SD: Floats, now: float) -> Floats:
        """How many replicas there should be."""


@dataclass(frozen=True, slots=True)
class OurSettings:
    """What is searched for our policies: a part of their configuration."""

    target: TargetScaling
    drafter: DrafterScaling


class Ours:
    """`cluster.demand` and `cluster.scaling`, as Serve's controller runs them; routers wake drafters as they do."""

    def __init__(self, settings: Sequence[OurSettings], num_languages: int) -> None:
        self._settings = settings
        self._limits = [(one.target.limits, one.drafter.limits) for one in settings]
        self._states = [[ScalingState()] * (1 + num_languages) for _ in settings]

    def decide(self, seen: Seen, wanted_SD: Floats, up_SD: Floats, now: float) -> Floats:
        result = wanted_SD.copy()
        target, drafters = seen.target_SF.tolist(), seen.drafters_SLF.tolist()
        streams, wanted = seen.streams_SL.tolist(), wanted_SD.tolist()
        up = up_SD.tolist()
        for day, settings in enumerate(self._settings):
            states, replicas = self._states[day], wanted[day]
            of_target, of_drafter = self._limits[day]
            demand = target_demand([TargetSignals(*target[day])], settings.target)
            result[day, 0], states[0] = decide(demand, int(replicas[0]), of_target, states[0], now)
            for number, signals in enumerate(drafters[day], 1):
                if replicas[number] == 0:
                    if streams[day][number - 1] >= settings.drafter.wake_streams and seen.drafts_pay_S[day]:
                        result[day, number], states[number] = 1, ScalingState()
                    continue
                told = up[day][number] > 0
                demand = _drafters(signals, up[day][number], settings.drafter) if told else None
                result[day, number], states[number] = decide(
                    demand, int(replicas[number]), of_drafter, states[number], now
                )
        return result


def _drafters(sums: Sequence[float], up: float, aims: DrafterScaling) -> float | None:
    sessions, asking, busy, late = sums
    one = DrafterSignals(sessions / up, asking / up, busy / up, late)
    return drafter_demand([one] * int(up), aims)


@dataclass(frozen=True, slots=True)
class PlainSettings:
    """What is searched for the plain policy: Serve's AutoscalingConfig of the target, and of each drafter."""

    target_ongoing: float
    target_up_s: float
    target_down_s: float
    look_back_s: float
    drafter_ongoing: float
    drafter_down_s: float
    drafter_min: int


class Plain:
    """Serve's default: open requests, averaged over the look-back, over `target_ongoing_requests`, with delays.

    A drafter that may have no replica is woken by the first request, as Serve does, and requests wait for none.
    """

    def __init__(self, settings: Sequence[PlainSettings], num_languages: int) -> None:
        def column(name: str) -> Floats:
            return np.array([[float(getattr(one, name))] for one in settings])

        drafters = np.ones((1, num_languages))
        self._ongoing = np.hstack([column("target_ongoing"), column("drafter_ongoing") * drafters])
        self._up_s = np.hstack([column("target_up_s"), column("target_up_s") * drafters])
        self._down_s = np.hstack([column("target_down_s"), column("drafter_down_s") * drafters])
        self._least = np.hstack([np.ones((len(settings), 1)), column("drafter_min") * drafters])
        self._keep = np.exp(-DECIDE_S / column("look_back_s"))
        self._mean: Floats | None = None
        self._since = np.zeros_like(self._ongoing)
        self._direction = np.zeros_like(self._ongoing)

    def decide(self, seen: Seen, wanted_SD: Floats, up_SD: Floats, now: float) -> Floats:
        requests = np.hstack([seen.streams_SL.sum(axis=1, keepdims=True), seen.streams_SL])
        if self._mean is None:
            self._mean = requests
        self._mean = self._keep * self._mean + (1 - self._keep) * requests
        desired = np.maximum(np.ceil(self._mean / self._ongoing - 1e-6), self._least)
        desired = np.where((self._mean < 0.05) & (self._least == 0), 0, desired)
        direction = np.sign(desired - wanted_SD)
        self._since = np.where(direction == self._direction, self._since, now)
        self._direction = direction
        delay = np.where(direction > 0, self._up_s, self._down_s)
        may = (direction != 0) & (now - self._since >= delay)
        result = np.where(may, desired, wanted_SD)
        result = np.where((wanted_SD > 1) & (result == 0), 1, result)
        result = np.where((wanted_SD == 0) & (requests > 0), np.maximum(result, 1), result)
        self._direction = np.where(result != wanted_SD, 0, self._direction)
        return np.asarray(result)


class Fixed:
    """Nothing moves."""

    def decide(self, seen: Seen, wanted_SD: Floats, up_SD: Floats, now: float) -> Floats:
        return wanted_SD


assert DECIDE_S % BIN_S == 0
