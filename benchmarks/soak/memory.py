"""How much memory the processes of a cluster take over time, and by how much that grew after the warm-up."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chaos.victims import Kind, ready
from deployments.processes import Process, descendants

BOUND = 0.05
OURS = ("router", "drafter", "target", "directory")
"""Kinds that must not grow by more; the rest is Ray's."""
_RAYS = ("gcs_server", "raylet")
"""Programs of Ray that run beside its actors."""
_LEAST_WARM_UP_S = 60.0
_WARM_UP_SHARE, _WINDOW_SHARE = 0.25, 0.1


@dataclass(frozen=True, slots=True)
class Growth:
    """Of one process: medians just after the warm-up and at the end."""

    kind: str
    name: str
    before_mib: float
    after_mib: float

    @property
    def share(self) -> float:
        return self.after_mib / self.before_mib - 1

    @property
    def is_too_much(self) -> bool:
        return self.kind in OURS and self.share > BOUND


@dataclass(slots=True)
class Memory:
    """Samples of processes that were there at the beginning."""

    kinds: Mapping[str, Kind]
    titles: Mapping[Process, tuple[str, str]]
    """Kind and title of each process that is followed."""
    samples: dict[Process, list[tuple[float, float]]] = field(default_factory=dict)
    """Time and MiB."""

    def sample(self, at_s: float) -> None:
        for process in self.titles:
            mib = private_mib(process.pid)
            if mib is not None:
                self.samples.setdefault(process, []).append((at_s, mib))

    def changes(self) -> list[str]:
        """Processes of the cluster that are gone, or new, since the beginning."""
        now = {process for kind in self.kinds.values() for process in ready(kind)}
        then = {process for process, (kind, _) in self.titles.items() if kind in self.kinds}
        gone = [f"{self.titles[process][1]} ({process.pid}) is gone" for process in then - now]
        return gone + [f"{process.title} ({process.pid}) is new" for process in now - then]

    def growth(self, length_s: float) -> list[Growth] | None:
        """Of each process; None when so short a soak is no more than warming up."""
        warm_s = max(_WARM_UP_SHARE * length_s, _LEAST_WARM_UP_S)
        window_s = _WINDOW_SHARE * length_s
        if warm_s + 2 * window_s > length_s:
            return None
        return [
            Growth(
                *self.titles[process],
                before_mib=_median(samples, warm_s, warm_s + window_s),
                after_mib=_median(samples, length_s - window_s, length_s),
            )
            for process, samples in self.samples.items()
        ]


def processes_of(kinds: Mapping[str, Kind]) -> dict[Process, tuple[str, str]]:
    """Kind and title of the cluster's processes, and of Ray's own, among those that this one started."""
    titles = {
        process: (name, process.title.partition(".")[0]) for name, kind in kinds.items() for process in ready(kind)
    }
    for process in descendants(os.getpid()):
        program = Path(process.title.partition(" ")[0]).name
        if program in _RAYS:
            titles[process] = ("ray", program)
    return titles


def private_mib(pid: int) -> float | None:
    """All that it has beside files, whose pages it shares with whoever comes and goes; None for one that is gone."""
    try:
        lines = (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024


def _median(samples: list[tuple[float, float]], from_s: float, to_s: float) -> float:
    return statistics.median(mib for at_s, mib in samples if from_s <= at_s <= to_s)
