"""A front over real gRPC on loopback, with a service that behaves as the prompt says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from cluster.errors import Unauthenticated, UnsupportedLanguage
from cluster.events import Chunk, Event, Figures, Finished, Started, TokenSource
from cluster.messages import FinishReason
from cluster.request import RawRequest
from cluster.tls import PemFiles
from deployments.front import Front
from deployments.generation import Generation


class FakeService:
    """Behaves as the prompt says."""

    def __init__(self) -> None:
        self.calls: list[tuple[RawRequest, str, str, str]] = []
        self.closed = asyncio.Event()
        self.go_on = asyncio.Event()

    def check_caller(self, tenant_name: str, key: str) -> None:
        if key == "wrong":
            raise Unauthenticated("tenant: unknown name or wrong key")

    async def answer(
        self, raw: RawRequest, *, request_id: str, tenant_name: str, key: str, traceparent: str
    ) -> AsyncGenerator[Event, None]:
        self.calls.append((raw, request_id, tenant_name, key))
        try:
            if raw.prompt == b"refuse":
                raise UnsupportedLanguage("language: 'xx' is not served; served: de")
            yield Started(request_id, 7, "t", "n", "de", "off", 3)
            if raw.prompt == b"crash":
                raise ValueError("/secret/path pid 4711 at 10.0.0.1")
            if raw.prompt == b"hang":
                await self.go_on.wait()
            yield Chunk(0, (5,), "\u00e9", (TokenSource.TARGET,), 1)
            yield Finished(FinishReason.EOS, 3, 1, Figures())
        finally:
            self.closed.set()


@asynccontextmanager
async def serving(
    tls: PemFiles | None = None, slow_reader_s: float = 30.0
) -> AsyncIterator[tuple[FakeService, Front, str]]:
    """The service, its front, and the address."""
    service = FakeService()
    front = Front(Generation(service), slow_reader_s)  # type: ignore[arg-type]  # has the one method needed
    port = await front.start("127.0.0.1", 0, tls)
    try:
        yield service, front, f"127.0.0.1:{port}"
    finally:
        await front.stop(0)
