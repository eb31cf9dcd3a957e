"""Tunes each policy on the tuning seeds by the same budget, and runs it on the reporting seeds.

12 settings are drawn, and those that keep both p95 are compared by cost. Of the best one other loads of a target are
tried, then other loads of a drafter, then of a target again: 24 in all. A fixed size is the smallest of 22.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np

from benchmarks.autoscale import assumptions as model
from benchmarks.autoscale.languages import LANGUAGES
from benchmarks.autoscale.policies import MOST, Fixed, Ours, OurSettings, Plain, PlainSettings, Policy
from benchmarks.autoscale.service_model import ANSWER_LK
from benchmarks.autoscale.simulation import Outcome, Simulation
from benchmarks.autoscale.traffic import (
    BIN_S,
    NUM_BINS,
    REPORTING_SEEDS,
    REQUESTS_PER_S,
    TUNING_SEEDS,
    Floats,
    Traffic,
    generate,
)
from cluster.scaling_config import DrafterScaling, TargetScaling

Name = Literal["ours", "plain", "fixed", "at once"]
NUM_DRAWN = 12
TARGET_FACTORS = (0.85, 0.93, 1.08, 1.2, 1.35)
DRAFTER_FACTORS = (0.5, 2.0, 4.0)
LAST_FACTORS = (0.95, 1.04, 1.08, 1.14)
_L = len(LANGUAGES)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Result:
    """Of one policy at one size."""

    name: Name
    size: int
    settings: Any
    tuning: Outcome
    reporting: Outcome


def draw_ours(rng: np.random.Generator) -> OurSettings:
    down_s = float(rng.choice([60, 120, 300, 600]))
    up_s = float(rng.choice([0, 10, 20, 40, 60]))
    return OurSettings(
        TargetScaling(
            max_replicas=MOST, up_delay_s=up_s, down_delay_s=down_s, prefill=round(float(rng.uniform(0.4, 0.95)), 3)
        ),
        DrafterScaling(
            min_replicas=0,
            max_replicas=MOST,
            up_delay_s=up_s,
            down_delay_s=down_s,
            zero_delay_s=float(rng.choice([60, 300, 900])),
            wake_streams=int(rng.choice([1, 2, 4, 8, 16])),
            sessions=round(float(np.exp(rng.uniform(np.log(16), np.log(150)))), 1),
        ),
    )


def scale_ours(settings: OurSettings, factor: float) -> OurSettings:
    prefill = min(settings.target.prefill * factor, 0.98)
    return replace(settings, target=settings.target.model_copy(update={"prefill": round(prefill, 3)}))


def scale_our_drafters(settings: OurSettings, factor: float) -> OurSettings:
    sessions = settings.drafter.sessions * factor
    return replace(settings, drafter=settings.drafter.model_copy(update={"sessions": round(sessions, 1)}))


def draw_plain(rng: np.random.Generator) -> PlainSettings:
    return PlainSettings(
        target_ongoing=round(float(np.exp(rng.uniform(np.log(8), np.log(30)))), 2),
        target_up_s=float(rng.choice([0, 10, 20, 40, 60])),
        target_down_s=float(rng.choice([60, 120, 300, 600])),
        look_back_s=float(rng.choice([20, 30, 60, 120])),
        drafter_ongoing=round(float(np.exp(rng.uniform(np.log(16), np.log(150)))), 1),
        drafter_down_s=float(rng.choice([60, 300, 900])),
        drafter_min=int(rng.choice([0, 1])),
    )


def scale_plain(settings: PlainSettings, factor: float) -> PlainSettings:
    return replace(settings, target_ongoing=round(settings.target_ongoing * factor, 2))


def scale_plain_drafters(settings: PlainSettings, factor: float) -> PlainSettings:
    return replace(settings, drafter_ongoing=round(settings.drafter_ongoing * factor, 1))


_SEARCH: dict[str, tuple[Any, Any, Any]] = {
    "ours": (draw_ours, scale_ours, scale_our_drafters),
    "plain": (draw_plain, scale_plain, scale_plain_drafters),
}


def result_of(name: Name, size: int) -> Result:
    """Tune one policy for one size and run it on the reporting seeds."""
    tuning_days = [generate(seed, REQUESTS_PER_S[size]) for seed in TUNING_SEEDS]
    rng = np.random.default_rng(size)
    first: list[Any]
    if name == "fixed":
        return _fixed(size, tuning_days)
    draw, of_target, of_drafter = _SEARCH["plain" if name == "plain" else "ours"]
    run = _RUNS[name]
    first = [draw(rng) for _ in range(NUM_DRAWN)]
    best, _ = _best(first, tuning_days, size, run)
    for scale, factors in ((of_target, TARGET_FACTORS), (of_drafter, DRAFTER_FACTORS), (of_target, LAST_FACTORS)):
        best, tuning = _best([best, *(scale(best, factor) for factor in factors)], tuning_days, size, run)
    return Result(name, size, best, tuning, _reported(size, lambda days: run(days, [best], size)))


def _ours(days: Sequence[Traffic], candidates: Sequence[OurSettings], size: int) -> Outcome:
    return _run(days, candidates, size, Ours(_for_days(candidates, days), _L))


def _at_once(days: Sequence[Traffic], candidates: Sequence[OurSettings], size: int) -> Outcome:
    """Our policy on machines that start within ten seconds: what waiting for machines costs it."""
    return _run(days, candidates, size, Ours(_for_days(candidates, days), _L), start_factor=0)


def _plain(days: Sequence[Traffic], candidates: Sequence[PlainSettings], size: int) -> Outcome:
    return _run(days, candidates, size, Plain(_for_days(candidates, days), _L))


_RUNS: dict[Name, Callable[[Sequence[Traffic], Sequence[Any], int], Outcome]] = {
    "ours": _ours,
    "plain": _plain,
    "at once": _at_once,
}


def _for_days(candidates: Sequence[T], days: Sequence[Traffic]) -> list[T]:
    return [candidate for candidate in candidates for _ in days]


def _reported(size: int, run: Callable[[Sequence[Traffic]], Outcome]) -> Outcome:
    return run([generate(seed, REQUESTS_PER_S[size]) for seed in REPORTING_SEEDS])


def _best(
    candidates: Sequence[Any],
    days: Sequence[Traffic],
    size: int,
    run: Callable[[Sequence[Traffic], Sequence[Any], int], Outcome],
) -> tuple[Any, Outcome]:
    """The cheapest that keeps both p95 on average over the days; if none does, the one that misses them least."""
    outcome = run(days, candidates, size)
    ranked = _ranks(outcome, len(candidates))
    number = int(np.argmin(ranked))
    return candidates[number], _part(outcome, number, len(days))


def _ranks(outcome: Outcome, num_candidates: int) -> Floats:
    def mean(values: Floats) -> Floats:
        return np.asarray(values.reshape(num_candidates, -1).mean(axis=1))

    excess = np.maximum(
        mean(outcome.first_token_p95) / model.FIRST_TOKEN_S, mean(outcome.between_p95) / model.BETWEEN_TOKENS_S
    )
    return np.asarray(np.where(excess <= 1, mean(outcome.cost), 1e9 * excess))


def _part(outcome: Outcome, number: int, num_days: int) -> Outcome:
    """One candidate's days."""
    rows = slice(number * num_days, (number + 1) * num_days)
    fields = {name: getattr(outcome, name)[rows] for name in Outcome.__dataclass_fields__ if name != "series"}
    return Outcome(**fields, series={name: values[rows] for name, values in outcome.series.items()})


def _run(
    days: Sequence[Traffic], candidates: Sequence[Any], size: int, policy: Policy, start_factor: float = 1.0
) -> Outcome:
    """All candidates on all days, side by side; each begins with the same cluster."""
    num = len(candidates) * len(days)
    targets_S, drafters_SL = np.full(num, 0.6 * size), np.ones((num, _L))
    return Simulation([*days] * len(candidates), policy, targets_S, drafters_SL, start_factor=start_factor).run()


def _fixed(size: int, tuning_days: Sequence[Traffic]) -> Result:
    """A number of targets for the whole day; of each drafter as many as one and a half times its mean streams need."""
    sizes = np.unique(np.rint(np.geomspace(0.2, 1.5, 22) * size))
    # Streams of a language: its requests a second, times the time of an answer at 50 tokens a second.
    rate_LK = np.mean([day.arrivals_TLK.sum(axis=0) for day in tuning_days], axis=0) / (NUM_BINS * BIN_S)
    streams_L = (rate_LK * ANSWER_LK / 50).sum(axis=1)
    drafters_L = np.maximum(np.ceil(1.5 * streams_L / 64), 1)

    def run(days: Sequence[Traffic], targets: Floats) -> Outcome:
        num = len(days)
        return Simulation(days, Fixed(), np.tile(targets, num // len(targets)), np.tile(drafters_L, (num, 1))).run()

    repeated = [day for day in tuning_days for _ in sizes]
    outcome = run(repeated, sizes)
    # By size, not by day.
    order = np.arange(len(repeated)).reshape(len(tuning_days), -1).T.ravel()
    outcome = Outcome(
        **{n: getattr(outcome, n)[order] for n in Outcome.__dataclass_fields__ if n != "series"},
        series={name: values[order] for name, values in outcome.series.items()},
    )
    number = int(np.argmin(_ranks(outcome, len(sizes))))
    chosen = sizes[number : number + 1]
    reporting = _reported(size, lambda days: run(days, chosen))
    return Result("fixed", size, {"targets": int(chosen[0])}, _part(outcome, number, len(tuning_days)), reporting)
