"""The table of a run: what each kind of fault brought."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.chaos.faults import Event
from benchmarks.chaos.traffic import Traffic
from polydraft.commands.bench_stats import percentile


def pause_of(event: Event, traffic: Traffic) -> float:
    """The longest that a stream heard nothing after a fault, in seconds."""
    return max((stream.pause_after(event.at_s) for stream in traffic.streams), default=0.0)


def markdown(events: Sequence[Event], traffic: Traffic) -> str:
    """For people."""
    lines = [
        f"{traffic.num_asked} answers under {len(events)} faults: {traffic.num_identical} whole and the same,"
        f" {len(traffic.different)} different, {len(traffic.failed)} failed.",
        "",
        "| fault | times | whole again after, median s | longest | longest pause, median s | p95 | longest |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in sorted({_name(event) for event in events}):
        of_kind = [event for event in events if _name(event) == name]
        back = [event.ready_after_s for event in of_kind if event.ready_after_s is not None]
        pauses = [pause_of(event, traffic) for event in of_kind]
        missing = f" ({len(of_kind) - len(back)} not within the patience)" if len(back) < len(of_kind) else ""
        lines.append(
            f"| {name} | {len(of_kind)} | {statistics.median(back) if back else float('nan'):.1f}"
            f" | {max(back, default=float('nan')):.1f}{missing} | {statistics.median(pauses):.2f}"
            f" | {percentile(pauses, 95):.2f} | {max(pauses):.2f} |"
        )
    lines += ["", *(f"Question {number} failed: {reason}" for number, reason in traffic.failed[:20])]
    return "\n".join(lines).rstrip()


def _name(event: Event) -> str:
    return f"{event.fault.kind}, {'stalled' if event.fault.stall_s else 'killed'}"
