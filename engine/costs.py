"""What steps of the target and waits for its drafters cost on this machine, fitted while it serves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TRUSTED_STEPS = 16
"""From so many on a fit says what is usual."""
_FORGET_STEP, _FORGET_WAIT = 0.995, 0.98
_INERTIA_STEP, _INERTIA_WAIT = (1e-2, 1e-2, 1e-6), (1e-2, 1e-6)
_FOLLOW_PACE = 0.05
"""Weight of a step in what is known of the machine's pace."""
_OUTLIER = 4.0
"""A step or wait longer than this many predictions says little about the next (the machine was busy with something
else)."""
_MOST_ROWS = 1_000.0
"""Rows that seem to cost nothing count as if a step's start took as long as so many."""
_SHORT_WAIT_S = 1e-3
"""Up to this no wait is an outlier, also where none was usual."""
_LONGEST_WAIT_S = 0.05
"""A longer one was a drafter lost or a deadline, not the usual way of a block."""


class LeastSquares:
    """A fit with exponential forgetting whose coefficients are not negative."""

    def __init__(self, inertia: Sequence[float], forget: float) -> None:
        """`inertia`: a little weight on the last fit of each, for observations that are all alike tell little."""
        size = len(inertia)
        self._inertia, self._forget = np.diag(inertia), forget
        self._products: Floats = np.zeros((size, size))
        self._targets: Floats = np.zeros(size)
        self.coefficients: Floats = np.zeros(size)
        """Of the last fit, in the values' unit a feature."""
        self.num_observed = 0
        self._num_fitted = 0
        """Observations that the coefficients know of."""

    def observe(self, features: Floats, value: float) -> None:
        """Take one value in; the coefficients stay until `fit`."""
        self._products *= self._forget
        self._targets *= self._forget
        self._products += np.outer(features, features)
        self._targets += features * value
        self.num_observed += 1

    def foretell(self, features: Floats) -> float:
        """By the last fit."""
        return float(features @ self.coefficients)

    def fit(self) -> Floats:
        """The coefficients anew, if anything was observed since the last time."""
        if self._num_fitted == self.num_observed:
            return self.coefficients
        self._num_fitted = self.num_observed
        size = len(self.coefficients)
        kept = np.ones(size, dtype=bool)
        products, targets = self._products + self._inertia, self._targets + self._inertia @ self.coefficients
        for _ in range(size):
            solution = np.zeros(size)
            solution[kept] = np.linalg.solve(products[np.ix_(kept, kept)], targets[kept])
            if not (solution < 0).any():
                break
            kept &= solution >= 0
        self.coefficients = np.maximum(solution, 0.0)
        return self.coefficients


class StepCost:
    """Seconds of a step over (context tokens, rows, 1), and how fast the machine is at present.

    A machine that slows down does so for one row as for ten. Steps that are all alike could not tell: to the fit they
    come at the usual pace.
    """

    def __init__(self) -> None:
        self._fit = LeastSquares(_INERTIA_STEP, _FORGET_STEP)
        self.pace = 1.0
        """Seconds now over those of the fit."""
        self._outliers_in_a_row = 0

    def observe(self, num_rows: int, num_context: int, seconds: float) -> None:
        """One step was measured."""
        features = np.array([num_context, num_rows, 1.0])
        if self._fit.num_observed > TRUSTED_STEPS:
            against = seconds / max(self._fit.foretell(features), 1e-9)
            if against > _OUTLIER * self.pace:
                self._outliers_in_a_row += 1
                if self._outliers_in_a_row < TRUSTED_STEPS:
                    return
                self.pace = against  # so many are the machine's new pace
            self._outliers_in_a_row = 0
            self.pace += _FOLLOW_PACE * (against - self.pace)
        if self._fit.num_observed % TRUSTED_STEPS == 0:
            self.fit()
        self._fit.observe(features, seconds / self.pace)

    def fit(self) -> tuple[float, float, float]:
        """Seconds a context token, a row, a step at the usual pace; none of them negative."""
        per_context, per_row, per_step = self._fit.fit().tolist()
        return per_context, per_row, per_step

    def foretell(self, num_rows: int, num_context: int) -> float:
        """Seconds of such a step at the present pace, by the last fit; 0 while too little is known."""
        if self._fit.num_observed <= TRUSTED_STEPS:
            return 0.0
        return self.pace * self._fit.foretell(np.array([num_context, num_rows, 1.0]))

    def fixed_rows(self, num_context: int) -> float:
        """How many rows take as long as all of a step but its rows, by the last fit; 0 before the first."""
        per_context, per_row, per_step = self._fit.coefficients.tolist()
        fixed_s = per_context * num_context + per_step
        return fixed_s / max(per_row, fixed_s / _MOST_ROWS) if fixed_s > 0 else 0.0


class WaitCost:
    """Seconds that the target stands still for a block of one drafter, over (nodes, 1), at the usual pace."""

    def __init__(self) -> None:
        self._fit = LeastSquares(_INERTIA_WAIT, _FORGET_WAIT)

    def observe(self, num_nodes: int, seconds: float) -> None:
        """One block was waited for. What is far above the usual counts as four times that: it may be usual by now."""
        features = np.array([num_nodes, 1.0])
        most = _LONGEST_WAIT_S
        if self._fit.num_observed > TRUSTED_STEPS:
            most = min(most, max(_OUTLIER * self._fit.foretell(features), _SHORT_WAIT_S))
        self._fit.observe(features, min(seconds, most))

    def fit(self) -> tuple[float, float]:
        """Seconds a node and a block; neither negative."""
        per_node, per_block = self._fit.fit().tolist()
        return per_node, per_block
