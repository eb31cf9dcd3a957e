"""The figures of a benchmark against values worked out by hand."""

from __future__ import annotations

import random

import pytest

from polydraft.commands import bench_stats as stats
from polydraft.commands.bench_stats import Phase, Record


def record(question: str, drafted: bool, num_tokens: int, total_s: float, *, rounds: int = 1, seed: int = 0) -> Record:
    arrivals = ((total_s, num_tokens),) if num_tokens else ()
    tokens = tuple(range(num_tokens))
    return Record(question, "de", "lm-de", drafted, seed, tokens, rounds, 0.0, total_s, arrivals)


# Three questions. With drafting: a 30 tokens in 1 s and 30 in 2 s -> 20 tokens/s; b 10 in 1 s -> 10; c 12 in 2 s -> 6.
# Without: a 20 + 40 in 2 + 4 s -> 10; b 10 in 2 s -> 5; c 12 in 4 s -> 3. Mean 12 over mean 6 is a speedup of 2.
ON = [record("a", True, 30, 1.0, rounds=10), record("a", True, 30, 2.0, rounds=12, seed=1)]
ON += [record("b", True, 10, 1.0, rounds=4), record("c", True, 12, 2.0, rounds=6)]
OFF = [record("a", False, 20, 2.0), record("a", False, 40, 4.0, seed=1), record("b", False, 10, 2.0)]
OFF += [record("c", False, 12, 4.0)]


def test_speed_of_a_question_is_tokens_over_time_of_all_its_repeats() -> None:
    assert stats.question_speeds(ON) == {"a": 20.0, "b": 10.0, "c": 6.0}
    assert stats.question_speeds(OFF) == {"a": 10.0, "b": 5.0, "c": 3.0}


def test_speedup_is_the_ratio_of_means_not_the_mean_of_ratios() -> None:
    uneven = [record("a", False, 60, 6.0), record("b", False, 10, 1.0), record("c", False, 12, 12.0)]

    assert stats.ratio(stats.mean_speed(ON), stats.mean_speed(OFF)) == pytest.approx(2.0)
    # (20 + 10 + 6) / (10 + 10 + 1) = 36 / 21, where the mean of 2, 1 and 6 would be 3
    assert stats.ratio(stats.mean_speed(ON), stats.mean_speed(uneven)) == pytest.approx(36 / 21)


def test_tokens_per_round_is_over_all_rounds() -> None:
    assert stats.tokens_per_round(ON) == pytest.approx(82 / 32)


def test_nothing_measured_is_zero() -> None:
    empty = record("a", True, 0, 1.0, rounds=0)

    assert stats.tokens_per_round([empty]) == 0.0
    assert stats.ratio(1.0, 0.0) == 0.0
    assert stats.percentile([], 50) == 0.0


def test_percentiles_interpolate() -> None:
    assert stats.percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.5
    assert stats.percentile([1.0, 2.0, 3.0, 4.0, 5.0], 95) == pytest.approx(4.8)
    assert stats.percentile([7.0], 95) == 7.0


def test_latencies_come_from_chunks() -> None:
    chunks = ((10.1, 1), (10.4, 3), (10.6, 1))
    answer = Record("a", "de", "lm", True, 0, (1, 2, 3, 4, 5), 3, 10.0, 0.6, chunks)

    assert stats.ttft_ms([answer]) == pytest.approx([100.0])
    assert stats.itl_ms([answer]) == pytest.approx([100.0, 100.0, 100.0, 200.0])


def test_identical_counts_questions_asked_both_ways() -> None:
    same, other = record("a", False, 30, 1.0), record("b", False, 9, 1.0)

    assert stats.count_identical([*ON, same, other]) == (1, 2)


def test_a_phase_counts_tokens_inside_its_window() -> None:
    chunks = ((0.5, 8), (1.0, 4), (2.9, 2), (3.0, 16))
    french = Record("q", "fr", "lm", True, 0, tuple(range(30)), 4, 0.0, 3.0, chunks)
    phase = Phase(True, 1.0, 3.0, (french, record("a", True, 10, 2.0)))

    assert phase.tokens_per_s() == 8.0
    assert phase.tokens_per_s("fr") == 3.0


def test_pairs_are_compared_in_order() -> None:
    def phase(drafted: bool, num_tokens: int) -> Phase:
        return Phase(drafted, 0.0, 2.0, (record("a", drafted, num_tokens, 1.0),))

    phases = [phase(True, 30), phase(False, 10), phase(True, 10), phase(False, 20)]

    assert stats.pair_ratios(phases) == [3.0, 0.5]
    assert stats.pair_ratios(phases, "fr") == [0.0, 0.0]


def test_intervals_hold_the_estimate_and_are_reproducible() -> None:
    ratios = [1.2, 1.5, 1.4, 1.6, 1.3, 1.45, 1.35]
    low, high = stats.ci95_of_median(ratios, random.Random(0))
    records = {"de": [*ON, *OFF]}

    assert 1.2 <= low < 1.4 < high <= 1.6
    assert stats.ci95_of_mean_speedup(records, random.Random(0)) == pytest.approx((2.0, 2.0))  # each question's is 2
    assert stats.ci95_of_median([1.5] * 7, random.Random(0)) == (1.5, 1.5)
