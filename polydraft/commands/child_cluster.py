"""A cluster as a child process: started, waited for, and stopped as a terminal would, by SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from polydraft.errors import Unavailable

READY = "ready "
START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 60


@asynccontextmanager
async def cluster(config: str, overrides: Sequence[str] = ()) -> AsyncIterator[str]:
    """The address of a cluster that runs inside the block, without HTTP; Unavailable if it does not come up."""
    async with cluster_with_http(config, ["cluster.http_port=null", *overrides]) as addresses:
        yield addresses["grpc"]


@asynccontextmanager
async def cluster_with_http(config: str, overrides: Sequence[str] = ()) -> AsyncIterator[Mapping[str, str]]:
    """The addresses of a cluster that runs inside the block, as its `ready` line tells them."""
    command = [sys.executable, "-m", "polydraft", "serve", config, "--grpc-port", str(free_port())]
    for override in overrides:
        command += ["--set", override]
    # A session of its own: Ctrl-C reaches this process only, which then stops the cluster in order.
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, start_new_session=True)
    reader: asyncio.Task[None] | None = None
    try:
        addresses = await asyncio.wait_for(_wait_ready(child), START_TIMEOUT_S)
        reader = asyncio.create_task(_forward(child))  # a full pipe would stop the cluster
        yield addresses
    except TimeoutError:
        raise Unavailable(f"the cluster did not come up within {START_TIMEOUT_S} s; its output is above") from None
    finally:
        await _stop(child)
        if reader is not None:
            await reader


async def _wait_ready(child: asyncio.subprocess.Process) -> Mapping[str, str]:
    async for line in _lines(child):
        if line.startswith(READY):
            return dict(word.split("=", 1) for word in line.removeprefix(READY).split())
        print(line, file=sys.stderr, flush=True)
    await child.wait()
    raise Unavailable("the cluster ended before it was ready; its output is above")


async def _forward(child: asyncio.subprocess.Process) -> None:
    async for line in _lines(child):
        print(line, file=sys.stderr, flush=True)


async def _lines(child: asyncio.subprocess.Process) -> AsyncIterator[str]:
    assert child.stdout is not None, "started with a pipe"
    async for line in child.stdout:
        yield line.decode("utf-8", "replace").rstrip("\n")


async def _stop(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
            child.send_signal(signal.SIGINT)
    try:
        await asyncio.wait_for(child.wait(), STOP_TIMEOUT_S)
    except TimeoutError:
        child.kill()
        await child.wait()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
