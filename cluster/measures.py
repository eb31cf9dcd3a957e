"""What a process has counted so far, in plain memory: adding to it costs next to nothing, and reports read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cluster.catalogue import Kind, Metric


@dataclass(slots=True)
class Total:
    """A counter or a gauge with its labels."""

    value: float = 0.0


@dataclass(slots=True)
class Observations:
    """A histogram with its labels."""

    count: int = 0
    total: float = 0.0
    untold: list[float] = field(default_factory=list)
    """Observed since an exporter last took them."""

    def observe(self, value: float) -> None:
        self.count += 1
        self.total += value
        if len(self.untold) < MAX_UNTOLD:  # nobody exports, or too slowly
            self.untold.append(value)


MAX_UNTOLD = 100_000
Labelled = tuple[str, ...]
Sample = tuple[str, Labelled, float]
"""Name, label values in the catalogue's order, value."""


class Measures:
    """All of one process. One thread writes; others may read."""

    def __init__(self) -> None:
        self._totals: dict[tuple[Metric, Labelled], Total] = {}
        self._observations: dict[tuple[Metric, Labelled], Observations] = {}

    def total(self, metric: Metric, *labels: str) -> Total:
        """What to add to; there from now on, be it 0."""
        key = (metric, labels)
        found = self._totals.get(key)
        if found is None:
            assert len(labels) == len(metric.labels) and metric.kind is not Kind.HISTOGRAM, (metric.name, labels)
            found = self._totals[key] = Total()
        return found

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Of a gauge, or of a counter that is kept elsewhere."""
        self.total(metric, *labels).value = value

    def observations(self, metric: Metric, *labels: str) -> Observations:
        """Of a histogram."""
        key = (metric, labels)
        found = self._observations.get(key)
        if found is None:
            assert len(labels) == len(metric.labels) and metric.kind is Kind.HISTOGRAM, (metric.name, labels)
            found = self._observations[key] = Observations()
        return found

    def totals(self) -> list[tuple[Metric, Labelled, float]]:
        return [(metric, labels, total.value) for (metric, labels), total in list(self._totals.items())]

    def drain(self) -> Iterator[tuple[Metric, Labelled, float]]:
        """What histograms observed since the last time."""
        for (metric, labels), observations in list(self._observations.items()):
            untold, observations.untold = observations.untold, []
            for value in untold:
                yield metric, labels, value

    def samples(self) -> list[Sample]:
        """Everything, for `polydraft status` and `top`; of histograms `_count` and `_sum`."""
        found = [(metric.name, labels, value) for metric, labels, value in self.totals()]
        for (metric, labels), seen in list(self._observations.items()):
            found.append((f"{metric.name}_count", labels, float(seen.count)))
            found.append((f"{metric.name}_sum", labels, seen.total))
        return found
