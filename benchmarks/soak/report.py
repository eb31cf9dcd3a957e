"""The tables of a soak, and whether it went well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.soak.memory import BOUND, Growth
from benchmarks.soak.orphans import Orphans


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a soak."""

    outcomes: Mapping[str, int]
    """Calls by the callers' manners, each as it should end."""
    growth: Sequence[Growth] | None
    """None: it was too short to tell."""
    empty_after_s: float
    orphans: Orphans
    problems: Sequence[str]
    """Everything else that was not as it should be."""

    @property
    def is_good(self) -> bool:
        return not self.problems and not any(growth.is_too_much for growth in self.growth or ())


def markdown(report: Report) -> str:
    """For people."""
    lines = ["| calls | |", "|---|---:|"]
    lines += [f"| {name} | {number} |" for name, number in sorted(report.outcomes.items())]
    if report.growth is not None:
        lines += ["", "| process | MiB after warm-up | at the end | growth |", "|---|---:|---:|---:|"]
        lines += [_row(growth) for growth in report.growth]
    lines += [
        "",
        f"Empty {report.empty_after_s:.1f} s after the last answer. A killed router left {report.orphans.num_seen} "
        f"sessions, gone after {report.orphans.gone_after_s:.1f} s.",
        "",
        *(f"Problem: {problem}" for problem in report.problems[:20]),
        f"{len(report.problems)} problems.",
    ]
    return "\n".join(lines)


def _row(growth: Growth) -> str:
    too_much = f" (more than {BOUND:.0%})" if growth.is_too_much else ""
    return f"| {growth.name} | {growth.before_mib:.1f} | {growth.after_mib:.1f} | {growth.share:+.1%}{too_much} |"
