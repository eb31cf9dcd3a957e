"""Which candidate is chosen, and what is said when none pays."""

from __future__ import annotations

from collections import Counter

import pytest

from training.planning.coverage import coverage_of
from training.planning.hardware import named_hardware
from training.planning.model import round_costs
from training.planning.plan import Candidate, largest_above, make_plan
from training.planning.shapes import DecoderShape, drafter_shape

LARGE = DecoderShape(32, 4096, 11_008, 32, 32, 128, 32_000, is_tied=False)
SMALL = DecoderShape(6, 384, 1152, 6, 3, 64, 8192)
H100 = named_hardware("h100").hardware


def test_the_choice_for_a_large_target_is_shallow_and_gives_little_up_for_its_weights() -> None:
    plan = make_plan(LARGE, H100, 0.65)

    fastest, choice = plan.candidates[0], plan.choice
    assert plan.pays
    assert choice.shape.layers == 1
    assert choice.weights_in_layers > fastest.weights_in_layers
    assert choice.expected.speedup >= 0.95 * fastest.expected.speedup
    assert plan.verdict.startswith("Train 1 layer of ")


def test_a_drafter_that_costs_as_much_as_a_small_target_cannot_pay() -> None:
    plan = make_plan(SMALL, H100, 0.65)

    assert not plan.pays
    assert plan.choice.needed(1.0) is None
    assert plan.verdict.startswith("None can pay here")
    assert "most of it for drafting" in plan.verdict


def test_an_acceptance_that_would_do_is_named() -> None:
    plan = make_plan(LARGE, H100, 0.05)

    needed = plan.choice.needed(plan.wanted)
    assert needed is not None
    assert plan.verdict.startswith("None pays at acceptance 0.05")
    assert f"takes acceptance {needed:.2f}" in plan.verdict


def test_messages_that_cost_more_than_they_bring_are_named() -> None:
    plan = make_plan(SMALL, H100.model_copy(update={"round_fixed_us": 50_000.0}), 0.9)

    assert "most of it for handing blocks over" in plan.verdict


def test_a_vocabulary_kept_whole_changes_nothing() -> None:
    even = coverage_of(Counter(dict.fromkeys(range(LARGE.rows), 1)))

    plain, covered = make_plan(LARGE, H100, 0.65), make_plan(LARGE, H100, 0.65, even)

    # Where every token is written as often as any other no row can be spared.
    assert {one.shape.rows for one in covered.candidates} == {LARGE.rows}
    untrimmed = drafter_shape(1, 512, 4, LARGE.rows)
    costs = round_costs(LARGE, untrimmed, H100)
    (found,) = (one for one in covered.candidates if one.shape == untrimmed)
    assert found.expected == Candidate(untrimmed, costs, 0.65).expected
    assert plain.choice.shape.rows < LARGE.rows


def test_rare_tokens_cost_acceptance() -> None:
    counts = Counter({token: 1000 if token < 4_000 else 1 for token in range(LARGE.rows)})

    plan = make_plan(LARGE, H100, 0.65, coverage_of(counts))

    assert plan.choice.shape.rows == 4_000
    assert plan.choice.acceptance == pytest.approx(0.65 * 4_000_000 / 4_028_000)


def test_of_those_fast_enough_the_largest_is_taken() -> None:
    shapes = [drafter_shape(1, width, 2, 8_000) for width in (512, 1024, 2048)]
    candidates = [Candidate(shape, round_costs(LARGE, shape, H100), 0.65) for shape in shapes]
    speeds = [one.expected.speedup for one in candidates]
    assert speeds == sorted(speeds, reverse=True)

    assert largest_above(candidates, speeds[1]).shape == shapes[1]
    assert largest_above(candidates, 2 * speeds[0]).shape == shapes[0]
