"""Replicas of the simulated tiers: those that are up, those that start, those that are still paid for."""

from __future__ import annotations

import numpy as np

from benchmarks.autoscale.traffic import BIN_S, Floats


class Replicas:
    """Counts by day and deployment, [S, D]."""

    def __init__(self, up_SD: Floats, start_s: float, idle_s: float) -> None:
        self.up = up_SD.copy()
        self._starting = np.zeros((max(1, round(start_s / BIN_S)), *up_SD.shape))
        self._leaving = np.zeros((round(idle_s / BIN_S), *up_SD.shape))
        self.wanted = up_SD.copy()

    def set(self, wanted_SD: Floats) -> Floats:
        """Start or end replicas, the latest to start first; how many of those that are up ended."""
        change = wanted_SD - self.wanted
        self.wanted = wanted_SD.copy()
        self._starting[-1] += np.maximum(change, 0)
        surplus = np.maximum(-change, 0)
        for number in range(len(self._starting) - 1, -1, -1):
            if not surplus.any():
                break
            stopped = np.minimum(self._starting[number], surplus)
            self._starting[number] -= stopped
            surplus = surplus - stopped
        self.up -= surplus
        self._leaving[-1] += surplus
        return surplus

    def pass_bin(self) -> None:
        """Ten seconds later."""
        self.up += self._starting[0]
        for ring in (self._starting, self._leaving):
            ring[:-1] = ring[1:]
            ring[-1] = 0

    @property
    def paid(self) -> Floats:
        """Machines that cost at present."""
        return np.asarray(self.wanted + self._leaving.sum(axis=0))
