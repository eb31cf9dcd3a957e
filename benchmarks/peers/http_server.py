"""A peer that is an HTTP server: a child process with its log in a file, and JSON in and out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 30
POLL_S = 0.2


@asynccontextmanager
async def http_server(
    command: Sequence[str], environment: Mapping[str, str], url: str, log: Path
) -> AsyncIterator[aiohttp.ClientSession]:
    """A session with `url` while the server runs; raises RuntimeError naming the log if it does not come up."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        # A session of its own: what the server starts itself ends with it.
        child = await asyncio.create_subprocess_exec(
            *command, env={**os.environ, **environment}, stdout=output, stderr=output, start_new_session=True
        )
    try:
        async with aiohttp.ClientSession(url) as session:
            await _wait_ready(child, session, log)
            yield session
    finally:
        await _stop(child)


async def post(session: aiohttp.ClientSession, path: str, body: Mapping[str, object]) -> dict[str, object]:
    """The reply to a request; raises RuntimeError with the server's words if it refuses."""
    async with session.post(path, json=body) as response:
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status}: {await response.text()}")
        reply: dict[str, object] = await response.json()
        return reply


async def _wait_ready(child: asyncio.subprocess.Process, session: aiohttp.ClientSession, log: Path) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while child.returncode is None:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get("/health") as response:
                        if response.status == 200:
                            return
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise RuntimeError(f"the server did not come up within {START_TIMEOUT_S} s; see {log}") from None
    raise RuntimeError(f"the server ended before it was ready; see {log}")


async def _stop(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself
        child.send_signal(signal.SIGINT)
    try:
        await asyncio.wait_for(child.wait(), STOP_TIMEOUT_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # its session, which is a process group too
        await child.wait()
