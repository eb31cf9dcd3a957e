"""Why a draft of several paths is judged as one tree, with laws that its tokens were drawn from: the short cuts are
lossy. Exactly, on the toy vectors: target (.5, .3, .2), draft (.2, .3, .5)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.unit.verify.test_laws import DRAFT, EXACT, TARGET, one_step
from tests.unit.verify.toy_tables import Laws


def distance(law: Laws) -> float:
    """Total variation from the target's law."""
    return float(np.abs(law - TARGET).sum() / 2)


def test_negative_the_longest_of_paths_that_are_judged_apart_is_lossy() -> None:
    """Each of two drawn paths is exact alone; the one that was accepted is not."""
    law = np.zeros(3)
    for first, second in itertools.product(range(3), repeat=2):
        drawn = DRAFT[first] * DRAFT[second]
        (one, residual_V), (other, _) = one_step(TARGET, DRAFT, first), one_step(TARGET, DRAFT, second)
        law[first] += drawn * one
        law[second] += drawn * (1 - one) * other
        law += drawn * (1 - one) * (1 - other) * residual_V

    assert law == pytest.approx([0.35, 0.39, 0.26], abs=EXACT)
    assert distance(law) == pytest.approx(0.15, abs=EXACT)


@pytest.mark.parametrize(("candidates", "far"), [((0, 1), 0.06), ((2, 1), 0.15), ((1, 0), 0.1)])
def test_negative_a_fresh_choice_of_the_target_for_each_path_is_lossy(candidates: tuple[int, int], far: float) -> None:
    """What coupled verification does once for all children, done anew for each path."""
    law = np.zeros(3)
    for first, second in itertools.product(range(3), repeat=2):
        chosen = TARGET[first] * TARGET[second]
        law[second if first != candidates[0] and second == candidates[1] else first] += chosen

    assert distance(law) == pytest.approx(far, abs=EXACT)


def test_negative_a_node_of_a_graph_judged_by_the_law_of_another_prefix_is_lossy() -> None:
    """A linked node was drawn behind another prefix than the one that it is read behind."""
    drawn_from = np.array([0.6, 0.3, 0.1])
    law = np.zeros(3)
    for token in range(3):
        acceptance, residual_V = one_step(TARGET, DRAFT, token)
        law += drawn_from[token] * (acceptance * np.eye(3)[token] + (1 - acceptance) * residual_V)

    assert law == pytest.approx([0.66, 0.3, 0.04], abs=EXACT)


def test_negative_one_random_number_for_stopping_and_for_acceptance_is_lossy() -> None:
    """A draft that ends where u exceeds the drafter's confidence, and is judged by the same u where it does not."""
    law = np.zeros(3)
    for token in range(3):
        acceptance, residual_V = one_step(TARGET, DRAFT, token)
        judged = float(DRAFT[token])
        accepted = min(judged, acceptance)
        law += DRAFT[token] * (accepted * np.eye(3)[token] + (judged - accepted) * residual_V + (1 - judged) * TARGET)

    assert law == pytest.approx([0.4, 0.276, 0.324], abs=EXACT)
