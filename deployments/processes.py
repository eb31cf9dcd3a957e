"""The processes below this one, so that `serve` can be sure that none outlives it. Linux; elsewhere none is found."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """A process; its start time tells it from a later one with the same pid."""

    pid: int
    started: str

    @property
    def is_alive(self) -> bool:
        fields = _stat(self.pid)
        return fields is not None and fields[19] == self.started and fields[0] != "Z"

    @property
    def title(self) -> str:
        """Its command line, of which Ray makes a title; empty for one that is gone."""
        try:
            return (_PROC / str(self.pid) / "cmdline").read_bytes().rstrip(b"\0 ").replace(b"\0", b" ").decode()
        except OSError:
            return ""


def descendants(root_pid: int) -> list[Process]:
    """All processes below `root_pid`, parents first."""
    children: dict[int, list[int]] = {}
    started: dict[int, str] = {}
    for entry in _PROC.glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
            started[int(entry.name)] = fields[19]
    found: list[int] = []
    waiting = [root_pid]
    while waiting:
        below = children.get(waiting.pop(0), [])
        found += below
        waiting += below
    return [Process(pid, started[pid]) for pid in found]


def mentioning(text: str) -> list[Process]:
    """All processes whose command line holds `text`, such as a directory of ours: also those whose parents are gone."""
    found = []
    for entry in _PROC.glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields is not None and text in (process := Process(int(entry.name), fields[19])).title:
            found.append(process)
    return found


def wait_or_kill(processes: list[Process], grace_s: float) -> None:
    """Wait until all have ended; after `grace_s` kill what is left."""
    deadline = time.monotonic() + grace_s
    while any(process.is_alive for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in processes:
        if process.is_alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on; None when the process is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()
