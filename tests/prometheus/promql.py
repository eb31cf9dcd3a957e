"""Which metrics a PromQL expression names."""

from __future__ import annotations

import re

from cluster.catalogue import CATALOGUE, Kind

_NAME = re.compile(r"\bray_polydraft_[a-z0-9_]+")


def named_in(expr: str) -> set[str]:
    """Series of ours, as Prometheus knows them."""
    return set(_NAME.findall(expr))


def exported_series() -> set[str]:
    """All that the catalogue says there are."""
    found = set()
    for metric in CATALOGUE.values():
        suffixes = ("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",)
        found |= {metric.exported + suffix for suffix in suffixes}
    return found
