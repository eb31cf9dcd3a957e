"""A router in one network namespace, replicas in others, and links between them that may be spoilt. Without Ray."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chaos.ends import router_address
from benchmarks.chaos.links import CLEAN, Conditions, Link, Namespace, link, namespace
from polydraft.commands.child_cluster import START_TIMEOUT_S

_STOP_S = 20.0
_POLL_S = 0.05


@dataclass(slots=True)
class LinkedCluster:
    """Answers at `address`. Each link leads from the router to what stands behind it."""

    address: str
    links: Sequence[Link]
    replicas: frozenset[str]
    connected: frozenset[str] = field(default_factory=frozenset)
    """Replicas that the router has a stream to."""

    def spoil(self, conditions: Conditions) -> None:
        """All links; CLEAN mends them."""
        for each in self.links:
            each.conditions = conditions

    async def until_whole(self) -> None:
        """The router is connected to all replicas."""
        while self.connected < self.replicas:
            await asyncio.sleep(_POLL_S)

    async def follow(self, router: Process) -> None:
        """What the router tells."""
        while line := await _line(router):
            self.connected = frozenset(json.loads(line)["connected"])


@asynccontextmanager
async def linked_cluster(
    config: Path, overrides: Sequence[str], behind: Sequence[Sequence[str]], seed: int = 0
) -> AsyncIterator[LinkedCluster]:
    """`behind` tells what is behind each link: target-NUMBER, drafter-NAME. LinksUnavailable if they cannot be made."""
    async with AsyncExitStack() as stack:
        near = stack.enter_context(namespace())
        far = [stack.enter_context(namespace()) for _ in behind]
        links = [stack.enter_context(link(near, end, seed + number)) for number, end in enumerate(far)]
        socket = f"{stack.enter_context(tempfile.TemporaryDirectory())}/router"

        async def start(place: Namespace, name: str, host: str) -> Process:
            return await stack.enter_async_context(_process(place, str(config), name, host, *overrides))

        replicas = [
            await start(end, name, each.far_address)
            for end, each, names in zip(far, links, behind, strict=True)
            for name in names
        ]
        router = await start(near, "router", socket)
        cluster = LinkedCluster(router_address(socket), links, frozenset(name for names in behind for name in names))
        following = asyncio.create_task(cluster.follow(router))
        stack.callback(following.cancel)
        async with asyncio.timeout(START_TIMEOUT_S):
            assert router.stdin is not None, "started with a pipe"
            for replica in replicas:
                router.stdin.write(await _line(replica))
            await cluster.until_whole()
        stack.callback(cluster.spoil, CLEAN)  # so that all leave in order
        yield cluster


@asynccontextmanager
async def _process(place: Namespace, *words: str) -> AsyncIterator[Process]:
    """A program of `benchmarks.chaos.ends`. It ends with its input, also when this process is killed."""
    command = place.command(sys.executable, "-m", "benchmarks.chaos.ends", *words)
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        yield process
    finally:
        assert process.stdin is not None, "started with a pipe"
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _line(process: Process) -> bytes:
    assert process.stdout is not None, "started with a pipe"
    return await process.stdout.readline()
