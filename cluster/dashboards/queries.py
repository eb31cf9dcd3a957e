"""PromQL over the catalogue: a query can only be made of metrics that there are, and of labels that they have."""

from __future__ import annotations

from cluster.catalogue import Kind, Metric

WINDOW = "$__rate_interval"
OURS = 'application=~"$application"'
"""Serve's name of the cluster: one Prometheus may watch several."""


def increase(metric: Metric, *by: str, where: str = "") -> str:
    """A counter a second, summed over all replicas."""
    assert metric.kind is Kind.COUNTER, metric.name
    return _sum(f"rate({_series(metric, metric.exported, by, where)}[{WINDOW}])", by)


def share(part: Metric, whole: Metric, *by: str) -> str:
    """One counter over another in the same time."""
    return f"{increase(part, *by)} / {increase(whole, *by)}"


def quantile(q: float, metric: Metric, *by: str) -> str:
    """Of a histogram."""
    assert metric.kind is Kind.HISTOGRAM, metric.name
    buckets = f"rate({_series(metric, f'{metric.exported}_bucket', by)}[{WINDOW}])"
    return f"histogram_quantile({q:g}, {_sum(buckets, ('le', *by))})"


def rate_of(metric: Metric, *by: str) -> str:
    """How often a histogram observes something, a second."""
    assert metric.kind is Kind.HISTOGRAM, metric.name
    return _sum(f"rate({_series(metric, f'{metric.exported}_count', by)}[{WINDOW}])", by)


def now(metric: Metric, *by: str, over: str = "sum", where: str = "") -> str:
    """A gauge over all replicas that tell it; `replica` and `deployment` may stand in `by` too."""
    assert metric.kind is Kind.GAUGE, metric.name
    return _sum(_series(metric, metric.exported, by, where), by, over)


def _series(metric: Metric, name: str, by: tuple[str, ...], where: str = "") -> str:
    unknown = {*by} - {*metric.labels, "replica", "deployment"}
    assert not unknown, f"{metric.name} has no labels {unknown}"
    return f"{name}{{{', '.join(filter(None, (OURS, where)))}}}"


def _sum(what: str, by: tuple[str, ...], over: str = "sum") -> str:
    return f"{over} by ({', '.join(by)}) ({what})" if by else f"{over}({what})"
