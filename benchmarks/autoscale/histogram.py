"""Quantiles of times without keeping them: counts in buckets that grow by 4 %, one row a simulated day."""

from __future__ import annotations

import numpy as np

from benchmarks.autoscale.traffic import Floats

_LEAST_S, _GROWTH, _NUM = 1e-3, 1.04, 450
"""To 46,000 s."""


class Histogram:
    """Times of many requests, by day."""

    def __init__(self, num_days: int) -> None:
        self._counts = np.zeros((num_days, _NUM))

    def add(self, seconds: Floats, weights: Floats) -> None:
        """Both [S, ...]."""
        days = len(self._counts)
        place = np.log(np.maximum(seconds, _LEAST_S) / _LEAST_S) / np.log(_GROWTH)
        bucket = np.minimum(place.astype(np.int64), _NUM - 1).reshape(days, -1)
        index = bucket + np.arange(days)[:, None] * _NUM
        self._counts += np.bincount(index.ravel(), weights.ravel(), days * _NUM).reshape(days, _NUM)

    def quantile(self, share: float) -> Floats:
        """[S]."""
        totals = self._counts.cumsum(axis=1)
        at = (totals >= share * totals[:, -1:]).argmax(axis=1)
        return np.asarray(_LEAST_S * _GROWTH ** (at + 0.5))
