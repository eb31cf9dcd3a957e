"""On which ports processes listen. Reads /proc."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deployments.processes import Process

_LISTEN = "0A"
_LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")


@dataclass(frozen=True, slots=True)
class Port:
    """Somebody listens here."""

    number: int
    is_loopback: bool
    """Whether it can be reached from this machine alone."""


def listening_ports(processes: Iterable[Process]) -> list[Port]:
    """Where any of these processes takes TCP connections."""
    inodes = {inode for process in processes for inode in _sockets_of(process)}
    found = {port for name in ("tcp", "tcp6") for inode, port in _listeners(name) if inode in inodes}
    return sorted(found, key=lambda port: port.number)


def _sockets_of(process: Process) -> set[str]:
    """Inodes of a process' sockets."""
    inodes = set()
    try:
        for entry in Path(f"/proc/{process.pid}/fd").iterdir():
            try:
                kind, _, inode = str(entry.readlink()).partition(":")
            except OSError:  # closed meanwhile
                continue
            if kind == "socket":
                inodes.add(inode.strip("[]"))
    except OSError:  # the process is gone
        return set()
    return inodes


def _listeners(name: str) -> list[tuple[str, Port]]:
    """Inode and port of each listening socket of this machine."""
    try:
        lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    except OSError:
        return []
    found = []
    for fields in map(str.split, lines):
        address, _, port = fields[1].partition(":")
        if fields[3] == _LISTEN:
            found.append((fields[9], Port(int(port, 16), address in _LOOPBACK)))
    return found
