"""What a process has counted, told to Ray's metrics: `ray_polydraft_*` at the metrics port of every node.

A gauge that is not told again disappears within half a minute, so all are told with each report; a counter is there
from its first report on, be it at 0, so that its first increase is one. What there is: `cluster/catalogue.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ray.serve import metrics as serve_metrics
from ray.util import metrics as ray_metrics

from cluster.catalogue import Kind, Metric
from cluster.measures import Labelled, Measures

REPORT_S = 1.0
_SLICE = 100
"""Observations of histograms told at a time, some 3 us each: what else is in this process must not wait for all."""


class Exporter:
    """Reports the measures of one process."""

    def __init__(self, measures: Callable[[], Measures], *, in_serve: bool = True) -> None:
        """`measures` gives them up to date. Not `in_serve`: an actor of our own."""
        self._measures = measures
        self._library: Any = serve_metrics if in_serve else ray_metrics  # the same names in both
        self._exported: dict[Metric, Any] = {}
        self._told: dict[tuple[Metric, Labelled], float] = {}

    async def run(self) -> None:
        """Report every second until cancelled."""
        while True:
            await asyncio.sleep(REPORT_S)
            measures = self._report_totals()
            for number, (metric, labels, value) in enumerate(measures.drain(), start=1):
                self._metric(metric).observe(value, tags=_tags(metric, labels))
                if number % _SLICE == 0:
                    await asyncio.sleep(0)

    def report(self) -> None:
        """All at once, for processes where nothing waits."""
        for metric, labels, value in self._report_totals().drain():
            self._metric(metric).observe(value, tags=_tags(metric, labels))

    def _report_totals(self) -> Measures:
        measures = self._measures()
        for metric, labels, value in measures.totals():
            exported, tags = self._metric(metric), _tags(metric, labels)
            if metric.kind is Kind.GAUGE:
                exported.set(value, tags=tags)
                continue
            key = (metric, labels)
            told = self._told.get(key)
            if told is None or value > told:
                exported._record(value - (told or 0.0), tags=tags)  # `inc` refuses the 0 of a first report
                self._told[key] = value
        return measures

    def _metric(self, metric: Metric) -> Any:
        found = self._exported.get(metric)
        if found is None:
            match metric.kind:
                case Kind.COUNTER:
                    found = self._library.Counter(metric.name, metric.help, metric.labels)
                case Kind.GAUGE:
                    found = self._library.Gauge(metric.name, metric.help, metric.labels)
                case Kind.HISTOGRAM:
                    found = self._library.Histogram(metric.name, metric.help, [*metric.buckets], metric.labels)
            self._exported[metric] = found
        return found


def _tags(metric: Metric, labels: Labelled) -> dict[str, str]:
    return dict(zip(metric.labels, labels, strict=True))
