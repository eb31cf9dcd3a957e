"""The figures of a benchmark, as pure functions over its records.

speed(question) = sum of its tokens / sum of its wall times; speedup = mean over questions of the speed with drafting
/ mean over questions without: a ratio of means, so long questions do not count more. Tokens are counted by their ids
on both sides. Tokens a round = tokens / rounds over all answers.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polydraft.commands.common import PromptId

NUM_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Record:
    """One answer of a benchmark."""

    question: PromptId
    language: str
    drafter: str
    drafted: bool
    """Whether drafting was on."""
    seed: int
    token_ids: tuple[int, ...]
    rounds: int
    begin_s: float
    """On the clock of `arrivals_s`."""
    total_s: float
    arrivals_s: tuple[tuple[float, int], ...]
    """When tokens arrived, and how many."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase under load: everything that was answered, and the window that counts."""

    drafted: bool
    begin_s: float
    end_s: float
    records: tuple[Record, ...]

    def tokens_per_s(self, language: str | None = None) -> float:
        """Tokens that arrived inside the window, a second; of one language, or of all."""
        num_tokens = sum(
            count
            for record in self.records
            if language in (None, record.language)
            for at_s, count in record.arrivals_s
            if self.begin_s <= at_s < self.end_s
        )
        return num_tokens / (self.end_s - self.begin_s)


def ratio(value: float, base: float) -> float:
    """value / base; 0 where nothing was measured."""
    return value / base if base else 0.0


def question_speeds(records: Sequence[Record]) -> dict[PromptId, float]:
    """Tokens a second of each question, over all its repeats."""
    tokens: dict[PromptId, int] = {}
    seconds: dict[PromptId, float] = {}
    for record in records:
        tokens[record.question] = tokens.get(record.question, 0) + len(record.token_ids)
        seconds[record.question] = seconds.get(record.question, 0.0) + record.total_s
    return {question: ratio(tokens[question], seconds[question]) for question in tokens}


def mean_speed(records: Sequence[Record]) -> float:
    """Mean over questions of tokens a second."""
    return statistics.fmean(question_speeds(records).values())


def tokens_per_round(records: Sequence[Record]) -> float:
    """Tokens that a target pass committed, over all rounds of all answers."""
    return ratio(sum(len(record.token_ids) for record in records), sum(record.rounds for record in records))


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear interpolation between the two nearest values; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def p50_p95(values: Sequence[float]) -> dict[str, float]:
    return {"p50": percentile(values, 50), "p95": percentile(values, 95)}


def ttft_ms(records: Sequence[Record]) -> list[float]:
    """Time to the first token of each answer that has one."""
    return [(record.arrivals_s[0][0] - record.begin_s) * 1000 for record in records if record.arrivals_s]


def itl_ms(records: Sequence[Record]) -> list[float]:
    """Time between tokens. A chunk's wait is shared evenly by its tokens; the first chunk's is the ttft."""
    gaps: list[float] = []
    for record in records:
        for (before_s, _), (at_s, count) in zip(record.arrivals_s, record.arrivals_s[1:], strict=False):
            gaps += [(at_s - before_s) * 1000 / count] * count
    return gaps


def count_identical(records: Sequence[Record]) -> tuple[int, int]:
    """How many (question, seed) gave the same ids with drafting on and off, of how many asked both ways."""
    seen: dict[tuple[PromptId, int], dict[bool, set[tuple[int, ...]]]] = {}
    for record in records:
        sides = seen.setdefault((record.question, record.seed), {True: set(), False: set()})
        sides[record.drafted].add(record.token_ids)
    both = [sides for sides in seen.values() if sides[True] and sides[False]]
    return sum(len(sides[True] | sides[False]) == 1 for sides in both), len(both)


def pair_ratios(phases: Sequence[Phase], language: str | None = None) -> list[float]:
    """Tokens a second with drafting over without, of each pair of phases in order."""
    on = [phase.tokens_per_s(language) for phase in phases if phase.drafted]
    off = [phase.tokens_per_s(language) for phase in phases if not phase.drafted]
    return [ratio(fast, slow) for fast, slow in zip(on, off, strict=True)]


def ci95_of_median(values: Sequence[float], rng: random.Random) -> tuple[float, float]:
    """Bootstrap interval of the median."""
    medians = [statistics.median(rng.choices(values, k=len(values))) for _ in range(NUM_RESAMPLES)]
    return percentile(medians, 2.5), percentile(medians, 97.5)


def ci95_of_mean_speedup(records: Mapping[str, Sequence[Record]], rng: random.Random) -> tuple[float, float]:
    """Bootstrap interval of the mean over languages of the speedup; questions are drawn anew within each language."""
    pairs = []
    for of_language in records.values():
        on = question_speeds([record for record in of_language if record.drafted])
        off = question_speeds([record for record in of_language if not record.drafted])
        pairs.append([(on[question], off[question]) for question in on])
    means = []
    for _ in range(NUM_RESAMPLES):
        draws = [rng.choices(pair, k=len(pair)) for pair in pairs]
        means.append(statistics.fmean(ratio(sum(p[0] for p in draw), sum(p[1] for p in draw)) for draw in draws))
    return percentile(means, 2.5), percentile(means, 97.5)
