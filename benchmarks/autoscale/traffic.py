"""A day of multilingual traffic from a seed: how many requests of each language and kind arrive in each ten seconds.

Conversations begin as a Poisson process whose rate is a language's daily curve, in the time zones of its speakers,
times slow noise, times bursts; rare languages are silent most of the day. A conversation has a geometric number of
turns with exponential times to think between them. A turn is of one of five kinds, whose answers are exponential:
together a hyperexponential, the usual stand-in for heavy tails (Feldmann and Whitt, Performance Evaluation 31, 1998).

Everything here was fixed before a policy was tuned. Policies are tuned on TUNING_SEEDS and reported on REPORTING_SEEDS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.autoscale.languages import LANGUAGES, Language

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAY_S = 86_400
BIN_S = 10
NUM_BINS = DAY_S // BIN_S

TUNING_SEEDS = (101, 102, 103)
REPORTING_SEEDS = tuple(range(1, 21))

REQUESTS_PER_S = {10: 16.0, 100: 220.0, 1000: 2_500.0}
"""Mean over the day, by about how many replicas the peak needs."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request; tokens as in English."""

    name: str
    share: float
    prompt_tokens: float
    answer_tokens: float
    """Mean of an exponential."""
    is_work: bool = False
    """More often in office hours."""


# Means around what Splitwise (arXiv 2311.18677) tells of production traffic: prompts of 1,000 to 1,500 tokens, answers
# from tens (code) to hundreds (conversations), both with long tails.
KINDS = (
    Kind("question", 0.40, 200, 60),
    Kind("conversation", 0.35, 1_000, 200),
    Kind("document", 0.12, 4_000, 250, is_work=True),
    Kind("essay", 0.10, 600, 1_200),
    Kind("agent", 0.03, 12_000, 600, is_work=True),
)

MEAN_TURNS = 3.0
MEAN_THINK_S = 90.0
_WORK_FACTOR = (0.5, 1.7)
"""How much likelier work is outside and inside of office hours."""
_NOISE_SIGMA, _NOISE_S = 0.1, 600.0
_BURSTS_A_DAY = 2.0
_BURST_PARETO, _BURST_MIN, _BURST_MAX = 1.6, 0.5, 8.0
_BURST_MEDIAN_S, _BURST_SIGMA, _BURST_RISE_S = 480.0, 0.7, 60.0
_CROWD_SHARE = 0.05
"""A language with so much of the traffic is asked by several crowds, whose bursts come apart."""
_ON_S, _OFF_S = 1_500.0, 9_000.0
"""Of a rare language: how long it is asked, and how long it is silent."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """One day."""

    arrivals_TLK: Ints
    """Requests by bin, language and kind."""

    @property
    def num_requests(self) -> int:
        return int(self.arrivals_TLK.sum())


def generate(seed: int, requests_per_s: float) -> Traffic:
    """The day of a seed; every scale of the same seed has curves and bursts of its own."""
    rng = np.random.default_rng([seed, round(requests_per_s * 1_000)])
    shares = np.array([language.share for language in LANGUAGES])
    shares /= shares.sum()
    starts_TL = np.empty((NUM_BINS, len(LANGUAGES)), dtype=np.int64)
    for number, language in enumerate(LANGUAGES):
        rate_T = daily_curve(language) * _noise(rng) * _bursts(rng, shares[number])
        if language.is_rare:
            rate_T = rate_T * _visits(rng)
        starts_per_bin = shares[number] * requests_per_s / MEAN_TURNS * BIN_S
        starts_TL[:, number] = rng.poisson(starts_per_bin * rate_T)
    return Traffic(_of_kinds(rng, _with_turns(rng, starts_TL)))


def daily_curve(language: Language) -> Floats:
    """How much is asked in each bin of a day in UTC; mean 1. Little at night, most before noon and in the evening."""
    hours = np.arange(NUM_BINS) * BIN_S / 3_600
    curve = np.zeros(NUM_BINS)
    for offset, part in language.zones:
        local = hours + offset
        curve += part * (0.25 + _hump(local, 11.0, 3.0) + 0.9 * _hump(local, 20.5, 2.5))
    return np.asarray(curve / curve.mean())


def _hump(hours: Floats, centre: float, width: float) -> Floats:
    distance = (hours - centre + 12) % 24 - 12
    return np.asarray(np.exp(-0.5 * (distance / width) ** 2))


def _noise(rng: np.random.Generator) -> Floats:
    """Slow noise: the exponential of an autoregressive process, mean 1."""
    keep = np.exp(-BIN_S / _NOISE_S)
    steps = rng.normal(size=NUM_BINS) * _NOISE_SIGMA * np.sqrt(1 - keep**2)
    level = np.empty(NUM_BINS)
    value = rng.normal() * _NOISE_SIGMA
    for number, step in enumerate(steps):
        value = keep * value + step
        level[number] = value
    return np.asarray(np.exp(level - _NOISE_SIGMA**2 / 2))


def _bursts(rng: np.random.Generator, share: float) -> Floats:
    """Factors of 1 and more: a minute's rise, then an exponential decay."""
    times = np.arange(NUM_BINS) * BIN_S
    factor = np.ones(NUM_BINS)
    for _ in range(rng.poisson(_BURSTS_A_DAY)):
        begin = rng.uniform(0, DAY_S)
        size = min(_BURST_MIN * (1 + rng.pareto(_BURST_PARETO)), _BURST_MAX) / np.sqrt(1 + share / _CROWD_SHARE)
        lasting = _BURST_MEDIAN_S * np.exp(rng.normal() * _BURST_SIGMA)
        since = times - begin
        rise = np.clip(since / _BURST_RISE_S, 0, 1)
        factor += np.where(since >= 0, size * rise * np.exp(-np.maximum(since - _BURST_RISE_S, 0) / lasting), 0)
    return factor


def _visits(rng: np.random.Generator) -> Floats:
    """Of a rare language: 0 most of the time, then, for the same mean, more than 1 for a while."""
    present = np.zeros(NUM_BINS)
    now = rng.exponential(_OFF_S) - _ON_S  # the day may begin within a visit
    while now < DAY_S:
        until = now + rng.exponential(_ON_S)
        present[max(0, int(now // BIN_S)) : max(0, int(until // BIN_S))] = 1
        now = until + rng.exponential(_OFF_S)
    return np.asarray(present * (_ON_S + _OFF_S) / _ON_S)


def _with_turns(rng: np.random.Generator, starts_TL: Ints) -> Ints:
    """First turns and those that follow: some of the conversations that think come back in each bin."""
    returns = 1 - np.exp(-BIN_S / MEAN_THINK_S)
    goes_on = 1 - 1 / MEAN_TURNS
    turns_TL = np.empty_like(starts_TL)
    # The day begins with as many as think at the rate of its first half hour.
    first_L = starts_TL[: 1_800 // BIN_S].mean(axis=0)
    thinking_L = np.rint(first_L * (MEAN_TURNS - 1) / returns).astype(np.int64)
    for number in range(len(starts_TL)):
        back_L = rng.binomial(thinking_L, returns)
        turns_TL[number] = starts_TL[number] + back_L
        thinking_L += rng.binomial(turns_TL[number], goes_on) - back_L
    return turns_TL


def _of_kinds(rng: np.random.Generator, turns_TL: Ints) -> Ints:
    """Each turn is of one kind; work comes in the office hours of the language's largest zone."""
    hours = np.arange(NUM_BINS) * BIN_S / 3_600
    by_kind: list[Any] = []
    for number, language in enumerate(LANGUAGES):
        offset, _ = max(language.zones, key=lambda zone: zone[1])
        at_work_T = np.abs((hours + offset) % 24 - 13.5) <= 4.5
        weights_TK = np.array([kind.share for kind in KINDS]) * np.ones((NUM_BINS, 1))
        for column, kind in enumerate(KINDS):
            if kind.is_work:
                weights_TK[:, column] *= np.where(at_work_T, _WORK_FACTOR[1], _WORK_FACTOR[0])
        weights_TK /= weights_TK.sum(axis=1, keepdims=True)
        by_kind.append(rng.multinomial(turns_TL[:, number], weights_TK))
    return np.stack(by_kind, axis=1)
