"""What the recipe study makes of its replays."""

from __future__ import annotations

import pytest

from benchmarks.recipe_study import BOTH, STUDY, read_study, slope
from training.replay import Replay


def of_rate(tokens_per_round: float) -> Replay:
    """Twenty answers, all alike."""
    return Replay((1000,) * 20, (0,) * 20, (round(1000 / tokens_per_round),) * 20)


def test_the_slope_is_that_of_figures_on_a_line() -> None:
    first = [of_rate(rate) for rate in (1.25, 1.25 + 0.5, 1.25 + 2 * 0.5)]
    second = [of_rate(rate) for rate in (2.0, 2.0, 2.0)]
    mean, (low, high) = slope({float(2**number): [first[number], second[number]] for number in range(3)})
    assert mean == pytest.approx(0.25, abs=2e-3)  # rounds are whole numbers
    assert low == pytest.approx(mean) and high == pytest.approx(mean)  # no answer differs from another


def test_the_sizes_of_the_study_ascend_to_the_recipe_itself() -> None:
    sizes = read_study(STUDY).sizes
    assert list(sizes) == sorted(sizes)
    assert list(sizes.values())[-1] == BOTH
