"""The simulated policies side by side: cost and times with 95 % intervals over the reporting seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.autoscale.traffic import Floats
from benchmarks.autoscale.tuning import Result

_T = 2.093
"""Student's t for twenty seeds, two-sided, 95 %."""


def interval(values: Floats, digits: int = 2) -> str:
    """Mean and half of the interval."""
    half = _T * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.{digits}f} +- {half:.{digits}f}"


def table(results: Sequence[Result]) -> str:
    """One row a size and policy; savings are against the plain policy, seed by seed."""
    lines = [
        "| size | policy | cost, $ a day | saved, % | first token p50, s | p95, s | queue p95, s "
        "| between tokens p50, ms | p95, ms | drafted, % | targets | drafters | changes |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    plain = {result.size: result.reporting for result in results if result.name == "plain"}
    for result in results:
        one = result.reporting
        saved = 100 * (1 - one.cost / plain[result.size].cost)
        targets, drafters = (one.series[name][:, 60:] for name in ("targets", "drafters"))
        lines.append(
            f"| {result.size} | {result.name} | {interval(one.cost, 0)} | {interval(saved, 1)}"
            f" | {interval(one.first_token_p50)} | {interval(one.first_token_p95)} | {interval(one.queue_p95)}"
            f" | {1e3 * one.between_p50.mean():.1f} | {1e3 * one.between_p95.mean():.1f}"
            f" | {100 * one.drafted.mean():.1f} | {targets.min():.0f} to {targets.max():.0f}"
            f" | {drafters.min():.0f} to {drafters.max():.0f} | {one.changes.mean():.0f} |"
        )
    return "\n".join(lines)
