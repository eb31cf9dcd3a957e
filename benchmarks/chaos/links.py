"""Links between network namespaces of our own that lose, delay, reorder, repeat and corrupt packets, or are cut.

A link is a tun device in each of two namespaces and a relay between them on the event loop: few kernels have netem. It
needs Linux, root and /dev/net/tun. A namespace lives as long as a process that ends with this one, a device as long as
its open file, so that nothing is left behind however this process ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_MAX_PACKET = 65_535
_IP_HEADER = 20
_numbers = itertools.count()
"""Of this process's links; devices and addresses are named by them."""


class LinksUnavailable(Exception):
    """This machine or user cannot make links; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What happens to packets, in both directions alike. Shares are of all packets, from 0 to 1."""

    loss: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    """At most so much is added to the delay. Packets keep their order."""
    reorder: float = 0.0
    """Share that overtakes what is on its way."""
    duplicate: float = 0.0
    corrupt: float = 0.0
    """Share with one bit flipped behind the IP header, where the receiver's checksum finds it."""
    bytes_per_s: float = 1e9


CLEAN = Conditions()
CUT = Conditions(loss=1.0)


@dataclass(slots=True)
class PacketCounts:
    """What a link did to packets."""

    passed: int = 0
    lost: int = 0
    reordered: int = 0
    duplicated: int = 0
    corrupted: int = 0


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace that holds a loopback device and its ends of links."""

    pid: int
    """Of the process that keeps it."""

    def command(self, *words: str) -> list[str]:
        """The command line that runs a program in here."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *words]


class Link:
    """Between two namespaces. `conditions` may be changed while packets pass."""

    def __init__(self, near_fd: int, far_fd: int, far_address: str, seed: int) -> None:
        self.far_address = far_address
        self.conditions = CLEAN
        self.counts = PacketCounts()
        self._chosen = random.Random(seed)
        self._loop = asyncio.get_running_loop()
        self._arrived_at = {near_fd: 0.0, far_fd: 0.0}
        """By the device at the end of each direction: when its last packet arrives."""
        self._loop.add_reader(near_fd, self._carry, near_fd, far_fd)
        self._loop.add_reader(far_fd, self._carry, far_fd, near_fd)
        self._is_open = True

    def close(self) -> None:
        """What is on its way arrives no more."""
        self._is_open = False
        for fd in self._arrived_at:
            self._loop.remove_reader(fd)

    def _carry(self, source: int, sink: int) -> None:
        with suppress(BlockingIOError):
            while True:
                self._send(os.read(source, _MAX_PACKET), sink)

    def _send(self, packet: bytes, sink: int) -> None:
        conditions, counts = self.conditions, self.counts
        if self._happens(conditions.loss):
            counts.lost += 1
            return
        if self._happens(conditions.corrupt):
            counts.corrupted += 1
            packet = self._with_a_bit_flipped(packet)
        counts.passed += 1
        self._loop.call_at(self._arrival(packet, sink), self._deliver, packet, sink)
        if self._happens(conditions.duplicate):
            counts.duplicated += 1
            self._loop.call_at(self._arrival(packet, sink), self._deliver, packet, sink)

    def _arrival(self, packet: bytes, sink: int) -> float:
        conditions, now = self.conditions, self._loop.time()
        if self._happens(conditions.reorder):
            self.counts.reordered += 1
            return now
        soonest = now + conditions.delay_s + conditions.jitter_s * self._chosen.random()
        arrives_at = max(soonest, self._arrived_at[sink]) + len(packet) / conditions.bytes_per_s
        self._arrived_at[sink] = arrives_at
        return arrives_at

    def _deliver(self, packet: bytes, sink: int) -> None:
        if self._is_open:
            with suppress(OSError):  # what the kernel refuses is lost
                os.write(sink, packet)

    def _happens(self, share: float) -> bool:
        return self._chosen.random() < share

    def _with_a_bit_flipped(self, packet: bytes) -> bytes:
        flipped = bytearray(packet)
        flipped[self._chosen.randrange(_IP_HEADER, len(packet))] ^= 1 << self._chosen.randrange(8)
        return bytes(flipped)


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A new network namespace. LinksUnavailable says why there can be none."""
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            raise LinksUnavailable(f"the program {program} is missing")
    # Without its input it ends, also when this process is killed.
    pipe = subprocess.PIPE
    with subprocess.Popen(["unshare", "--net", "cat"], stdin=pipe, stdout=pipe, stderr=pipe) as holder:
        assert holder.stdin is not None and holder.stdout is not None and holder.stderr is not None
        with suppress(BrokenPipeError):
            holder.stdin.write(b"\n")
            holder.stdin.flush()
        if not holder.stdout.readline():
            raise LinksUnavailable(holder.stderr.read().decode().strip())
        made = Namespace(holder.pid)
        _run(made.command("ip", "link", "set", "lo", "up"))
        yield made


@contextmanager
def link(near: Namespace, far: Namespace, seed: int = 0) -> Iterator[Link]:
    """A link that the running event loop carries. LinksUnavailable says why there can be none."""
    number = next(_numbers)
    near_address, far_address = (f"10.77.{number % 256}.{end}" for end in (1, 2))
    near_name, far_name = (f"pd{os.getpid()}{end}{number}" for end in "ab")
    with _device(near_name, near, near_address) as near_fd, _device(far_name, far, far_address) as far_fd:
        made = Link(near_fd, far_fd, far_address, seed)
        try:
            yield made
        finally:
            made.close()


@contextmanager
def _device(name: str, home: Namespace, address: str) -> Iterator[int]:
    """The open file of a tun device in a namespace."""
    fd = _open_device(name)
    try:
        _run(["ip", "link", "set", name, "netns", str(home.pid)])
        _run(home.command("ip", "address", "add", f"{address}/30", "dev", name))
        _run(home.command("ip", "link", "set", name, "up"))
        yield fd
    finally:
        os.close(fd)


def _open_device(name: str) -> int:
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        raise LinksUnavailable(f"/dev/net/tun: {error.strerror}") from None
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError as error:
        os.close(fd)
        raise LinksUnavailable(f"a tun device: {error.strerror}") from None
    return fd


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)
