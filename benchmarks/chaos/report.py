"""What a run tells: each fault when it is over, and at the end a table of what each kind of fault brought."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict

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
    for name in sorted({event.name for event in events}):
        of_kind = [event for event in events if event.name == name]
        back = [event.whole_after_s for event in of_kind if event.whole_after_s is not None]
        pauses = [pause_of(event, traffic) for event in of_kind]
        missing = f" ({len(of_kind) - len(back)} not within the patience)" if len(back) < len(of_kind) else ""
        lines.append(
            f"| {name} | {len(of_kind)} | {statistics.median(back) if back else float('nan'):.1f}"
            f" | {max(back, default=float('nan')):.1f}{missing} | {statistics.median(pauses):.2f}"
            f" | {percentile(pauses, 95):.2f} | {max(pauses):.2f} |"
        )
    lines += ["", *(f"Question {number} failed: {reason}" for number, reason in traffic.failed[:20])]
    return "\n".join(lines).rstrip()


def tell_event(event: Event, traffic: Traffic, number: int, total: int) -> None:
    """To standard error."""
    whole_s = "not" if event.whole_after_s is None else f"{event.whole_after_s:.1f} s"
    print(
        f"{number}/{total}: {event.name}; whole after {whole_s}, pause {pause_of(event, traffic):.2f} s; "
        f"{traffic.num_identical} answers the same, {len(traffic.different)} different, {len(traffic.failed)} failed",
        file=sys.stderr,
        flush=True,
    )


def figures(events: Sequence[Event], traffic: Traffic) -> dict[str, object]:
    """The same for programs."""
    return {
        "events": [asdict(event) | {"pause_s": pause_of(event, traffic)} for event in events],
        "answers": {"same": traffic.num_identical, "different": traffic.different, "failed": traffic.failed},
    }
