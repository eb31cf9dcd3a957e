"""How sure a figure is: 95 % intervals by drawing its questions anew (the percentile bootstrap).

Shape letters: Q questions, R resamples; `...` further axes of a table.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 1000
PERCENTILES = (2.5, 97.5)

Floats = NDArray[np.float64]


def resampled(figure: Callable[..., Floats], *tables: Floats, seed: int = 0) -> Floats:
    """`figure` of tables [Q, ...] with the same questions drawn from each, [R].

    `figure` takes tables [R, Q, ...] and gives [R].
    """
    num_questions = len(tables[0])
    draws_RQ = np.random.default_rng(seed).integers(num_questions, size=(NUM_RESAMPLES, num_questions))
    return figure(*(table[draws_RQ] for table in tables))


def ci95(values_R: Floats) -> tuple[float, float]:
    """Between which 95 % of the resamples lie."""
    low, high = np.percentile(values_R, PERCENTILES).tolist()
    return low, high
