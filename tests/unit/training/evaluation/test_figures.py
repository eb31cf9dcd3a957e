"""The figures worked out by hand from a log of three questions, two seeds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from engine.local import Round
from polydraft.commands import bench_stats
from polydraft.commands.bench_stats import Record
from training.evaluation import figures
from training.evaluation.protocol import Answer
from training.evaluation.questions import Question


def answer(name: str, seed: int, num_tokens: int, wall_s: float, num_rounds: int = 1, drafter: str = "de") -> Answer:
    """Of one turn; its tokens are those of its question and seed, whoever drafts."""
    question = Question("file", name, "", "de", ("?",))
    rounds = (Round(1, 0, 0, 0),) * num_rounds
    token_ids = (tuple(range(seed, seed + num_tokens)),)
    return Answer(question, drafter, 1.0, seed, True, True, token_ids, rounds, wall_s)


# Tokens a round, seed 0: (12 + 6 + 9) / (4 + 3 + 2) = 3; seed 1: (10 + 2 + 8) / (5 + 1 + 2) = 2.5.
# Speeds, seed 0: 12, 6, 3 tokens/s, mean 7; seed 1: 10, 2, 12, mean 8.
DRAFTED = [
    *(answer("a", 0, 12, 1.0, 4), answer("b", 0, 6, 1.0, 3), answer("c", 0, 9, 3.0, 2)),
    *(answer("c", 1, 8, 2 / 3, 2), answer("a", 1, 10, 1.0, 5), answer("b", 1, 2, 1.0, 1)),
]
# Speeds without, seed 0: 6, 3, 1.5, mean 3.5; seed 1: 5, 1, 4, mean 10 / 3.
PLAIN = [
    *(answer("a", 0, 12, 2.0, 12, ""), answer("b", 0, 6, 2.0, 6, ""), answer("c", 0, 9, 6.0, 9, "")),
    *(answer("a", 1, 10, 2.0, 10, ""), answer("b", 1, 2, 2.0, 2, ""), answer("c", 1, 8, 2.0, 8, "")),
]


def test_tokens_per_round_is_over_all_rounds_of_a_seed() -> None:
    found = figures.tokens_per_round(DRAFTED)

    assert found.mean == pytest.approx((3.0 + 2.5) / 2)
    assert found.std == pytest.approx(math.sqrt(0.125))  # ddof 1
    assert figures.tokens_per_round(DRAFTED[:3]).std is None


def test_speedup_is_the_ratio_of_means_over_questions() -> None:
    found = figures.speedup(DRAFTED, PLAIN)

    assert figures.tokens_per_s(DRAFTED).mean == pytest.approx(7.5)
    assert found.mean == pytest.approx((7 / 3.5 + 8 / (10 / 3)) / 2)
    assert found.std == pytest.approx(abs(2.0 - 2.4) / math.sqrt(2))


def test_a_nodes_cost_is_in_steps_of_the_median_plain_answer() -> None:
    plain = [replace(one, step_s=step_s) for one, step_s in zip(PLAIN, (0.1, 0.2, 0.2, 0.2, 0.2, 9.0), strict=True)]
    drafted = [replace(DRAFTED[0], drafting_s=0.3, num_nodes=10), replace(DRAFTED[1], drafting_s=0.1, num_nodes=10)]

    assert figures.node_cost(drafted, plain) == pytest.approx(0.4 / 20 / 0.2)
    assert figures.node_cost([DRAFTED[0]], plain) == 0.0, "nothing was drafted"


def test_bench_counts_the_same() -> None:
    def records(answers: list[Answer], drafted: bool) -> list[Record]:
        return [
            Record(a.question.id, "de", a.drafter, drafted, a.seed, a.token_ids[0], len(a.rounds), 0.0, a.wall_s, ())
            for a in answers
        ]

    on, off = records(DRAFTED[:3], True), records(PLAIN[:3], False)

    assert figures.tokens_per_round(DRAFTED[:3]).mean == bench_stats.tokens_per_round(on)
    speedup = bench_stats.ratio(bench_stats.mean_speed(on), bench_stats.mean_speed(off))
    assert figures.speedup(DRAFTED[:3], PLAIN[:3]).mean == pytest.approx(speedup)


def test_intervals_draw_questions_with_all_their_seeds() -> None:
    # Every question has twice the speed in seed 0, so every draw has; its tokens a round are 3, 2 and 4.5.
    found = figures.speedup(DRAFTED[:3], PLAIN[:3])
    low, high = figures.tokens_per_round(DRAFTED[:3]).ci95

    assert found.ci95 == pytest.approx((2.0, 2.0))
    assert 2.0 <= low < 3.0 < high <= 4.5
    assert figures.tokens_per_round(DRAFTED).ci95 == figures.tokens_per_round(DRAFTED).ci95


def test_acceptance_at_an_offset_asks_rounds_that_reached_it_and_drafted_there() -> None:
    rounds = [
        Round(num_tokens=3, num_drafted=4, num_accepted=2, num_compared=3),
        Round(num_tokens=3, num_drafted=2, num_accepted=2, num_compared=2),  # nothing drafted at offset 3
        Round(num_tokens=1, num_drafted=5, num_accepted=0, num_compared=1),  # offset 2 not reached
        Round(num_tokens=1, num_drafted=0, num_accepted=0, num_compared=0),
    ]

    found = figures.acceptance_by_offset(rounds)

    assert [(offset.num_compared, offset.num_accepted) for offset in found] == [(3, 2), (2, 2), (1, 0)]
    assert [offset.acceptance for offset in found] == pytest.approx([2 / 3, 1.0, 0.0])
    assert figures.acceptance_by_offset([]) == []


def test_identical_compares_with_the_plain_answer_of_the_same_question_and_seed() -> None:
    other = answer("b", 1, 3, 1.0)

    assert figures.count_identical(DRAFTED, PLAIN) == (6, 6)
    assert figures.count_identical([*DRAFTED[:3], other], PLAIN) == (3, 4)


def test_nothing_answered_is_zero() -> None:
    assert figures.tokens_per_round([answer("a", 0, 0, 0.5, 0)]).mean == 0.0
    assert figures.speedup([answer("a", 0, 0, 0.5)], [answer("a", 0, 0, 0.5)]).mean == 0.0
