"""The speed model against toys that are solved by hand."""

from __future__ import annotations

import itertools
import random

import pytest

from training.planning.hardware import Hardware, Runner
from training.planning.model import (
    MAX_DRAFTED,
    RoundCosts,
    forecast,
    needed_acceptance,
    pass_s,
    round_costs,
    tokens_a_round,
)
from training.planning.shapes import DecoderShape, drafter_shape
from training.replay import count_rounds

TARGET = DecoderShape(32, 4096, 11_008, 32, 32, 128, 32_000, is_tied=False)
RUNNER = Runner(
    weight_bytes=2,
    bandwidth_gb_s=1_000,
    tflops=100,
    overlaps=True,
    step_fixed_us=100,
    layer_fixed_us=50,
    row_fixed_us=3,
)


def unit_costs(drafted_token: float, handover: float = 0.0) -> RoundCosts:
    """A step of one second whatever its rows, a drafted token of a part of that."""
    return RoundCosts(drafted_token, (1.0,) * (MAX_DRAFTED + 1), handover)


@pytest.mark.parametrize(("cost", "best"), [(0.01, 7), (0.02, 6), (0.05, 4), (0.1, 3)])
def test_best_draft_length_at_acceptance_06(cost: float, best: int) -> None:
    assert forecast(unit_costs(cost), 0.6).num_drafted == best


@pytest.mark.parametrize("num_drafted", [1, 2, 5])
def test_tokens_a_round_by_enumeration(num_drafted: int) -> None:
    acceptance, expected = 0.7, 0.0
    for fates in itertools.product((True, False), repeat=num_drafted):
        prob = 1.0
        for is_accepted in fates:
            prob *= acceptance if is_accepted else 1 - acceptance
        expected += prob * (1 + len(list(itertools.takewhile(bool, fates))))

    assert tokens_a_round(acceptance, num_drafted) == pytest.approx(expected)
    assert expected == pytest.approx((1 - acceptance ** (num_drafted + 1)) / (1 - acceptance))


@pytest.mark.parametrize(("acceptance", "num_drafted"), [(0.5, 2), (0.8, 6)])
def test_counted_rounds_follow_the_formula(acceptance: float, num_drafted: int) -> None:
    rng = random.Random(3)
    hits = [rng.random() < acceptance for _ in range(20_000)]

    counted = len(hits) / count_rounds(hits, num_drafted)

    assert counted == pytest.approx(tokens_a_round(acceptance, num_drafted), rel=0.02)


@pytest.mark.parametrize("speedup", [1.0, 1.5])
@pytest.mark.parametrize("costs", [unit_costs(0.05), unit_costs(0.3), unit_costs(0.05, handover=0.8)])
def test_needed_acceptance_gives_that_speedup(costs: RoundCosts, speedup: float) -> None:
    needed = needed_acceptance(costs, speedup)

    assert needed is not None
    assert 0 < needed < 1
    assert forecast(costs, needed).speedup == pytest.approx(speedup)


def test_what_no_acceptance_gives_is_none() -> None:
    assert needed_acceptance(unit_costs(1.2), 1.0) is None


def test_a_round_has_its_parts() -> None:
    costs = RoundCosts(0.1, (1.0, 1.2, 1.4), handover_s=0.5)

    assert costs.round_s(2) == pytest.approx(2 * 0.1 + 1.4 + 0.5)
    assert forecast(costs, 1.0).speedup == pytest.approx(3 / 2.1)


def test_a_pass_reads_its_weights_once_and_pays_for_each_layer() -> None:
    read_s = TARGET.pass_weights * 2 / 1e12

    assert pass_s(TARGET, RUNNER) == pytest.approx(read_s + 100e-6 + 32 * 50e-6)
    assert pass_s(TARGET, RUNNER, 5) - pass_s(TARGET, RUNNER) == pytest.approx(32 * 4 * 3e-6)


def test_many_rows_are_bound_by_arithmetic() -> None:
    rows = 1_000
    computed_s = 2 * TARGET.pass_weights * rows / 100e12
    fixed_s = 100e-6 + 32 * (50e-6 + 999 * 3e-6)

    assert pass_s(TARGET, RUNNER, rows) == pytest.approx(fixed_s + computed_s)


def test_without_overlap_further_rows_come_on_top() -> None:
    processor = RUNNER.model_copy(update={"overlaps": False, "row_fixed_us": 0.0})
    row_s = 2 * TARGET.pass_weights / 100e12

    assert pass_s(TARGET, processor, 4) - pass_s(TARGET, processor, 1) == pytest.approx(3 * row_s)


def test_padded_rows_make_the_first_drafted_token_free() -> None:
    padded = RUNNER.model_copy(update={"overlaps": False, "min_rows": 2})

    assert pass_s(TARGET, padded, 1) == pass_s(TARGET, padded, 2) < pass_s(TARGET, padded, 3)


def test_one_wide_layer_beats_four_narrow_ones_of_as_many_weights() -> None:
    hardware = Hardware(name="toy", target=RUNNER, drafter=RUNNER)
    wide, narrow = drafter_shape(1, 1024, 3, 8_000), drafter_shape(4, 512, 3, 8_000)
    assert wide.layers * wide.layer_weights == pytest.approx(narrow.layers * narrow.layer_weights, rel=0.01)

    of_wide, of_narrow = (forecast(round_costs(TARGET, shape, hardware), 0.6) for shape in (wide, narrow))

    assert of_wide.speedup > of_narrow.speedup
