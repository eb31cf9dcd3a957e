"""`Client`: the same calls for code without an event loop; a thin wrapper over a loop in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc

from polydraft.answers import Answer, Event
from polydraft.client import AsyncClient
from polydraft.options import GenerateOptions, Prompt

T = TypeVar("T")


class Client:
    """A connection to a cluster. Threads may share it.

    with Client("localhost:9000", tenant="acme") as client:
        for event in client.stream("Guten Morgen"):
            ...
    """

    def __init__(
        self,
        address: str,
        tenant: str | None = None,
        *,
        key: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """`key` proves the tenant; `credentials` turn TLS on; `timeout_s` bounds each answer."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="polydraft-client", daemon=True)
        self._thread.start()

        async def connect() -> AsyncClient:
            return AsyncClient(address, tenant, key=key, credentials=credentials, timeout_s=timeout_s)

        try:
            self._client = self._run(connect())
        except BaseException:
            self._stop_loop()
            raise

    def generate(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> Answer:
        """The whole answer at once."""
        return self._run(self._client.generate(prompt, **options))

    def stream(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> Generator[Event, None, None]:
        """`Started`, then `Chunk`s, then `Finished`. Leaving the loop early cancels the answer."""
        events = self._client.stream(prompt, **options)
        try:
            while (event := self._run(_next(events))) is not None:
                yield event
        finally:
            if not self._loop.is_closed():
                self._run(events.aclose())

    def close(self) -> None:
        """Close the connection; call it once."""
        self._run(self._client.close())
        self._stop_loop()

    def _run(self, work: Coroutine[object, object, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # the caller was interrupted
            raise

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _next(events: AsyncGenerator[Event, None]) -> Event | None:
    return await anext(events, None)
