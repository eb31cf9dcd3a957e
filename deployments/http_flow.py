"""What Serve's HTTP proxy lacks, as middleware inside it: a bound on bodies, and flow control back to the router.

The proxy takes bodies of any size before anybody asks for them, and takes answers from a router as fast as they are
written, however slowly the client reads. Here it stops taking a body beyond `MAX_BODY_BYTES`, and tells the router,
among the messages that it passes on from the client, how much of the answer has left. Of a caller's headers it passes
on only those that the API reads: some of the others are orders to Serve.

Ray loads `middlewares` in the proxy's process; `deployments.own_ray` says so in the environment. Without it, or where
the router is reached directly, `Outlet` waits for the transport alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.errors import Cancelled

MAX_BODY_BYTES = 4 << 20
"""As of a gRPC message."""
IMPORT_PATH = f"{__name__}.middlewares"

_PASSED_ON = frozenset(
    {b"authorization", b"content-type", b"host", b"openai-organization", b"polydraft-tenant", b"traceparent"}
)
_MARK = (b"polydraft-flow", b"1")
"""A header that tells the router of this middleware."""
_TAKEN, _TOO_LARGE = "polydraft.taken", "polydraft.too_large"
_STRIDE, _WINDOW = 16, 64
"""Messages of an answer: how many leave between two signs of it, and how far a router may be ahead."""


class BodyTooLarge(Exception):
    """A body of more than `MAX_BODY_BYTES`."""


def middlewares() -> list[Middleware]:
    """For Serve's proxy."""
    return [Middleware(ProxyFlow)]


class ProxyFlow:
    """Around Serve's proxy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name in _PASSED_ON]
        scope = {**scope, "headers": [*headers, _MARK]}
        to_router: asyncio.Queue[Message] = asyncio.Queue()
        num_sent = 0

        async def send_and_tell(message: Message) -> None:
            nonlocal num_sent
            await send(message)
            num_sent += 1
            if num_sent % _STRIDE == 0:
                to_router.put_nowait({"type": _TAKEN})

        reading = asyncio.create_task(_read(receive, to_router))
        try:
            await self._app(scope, to_router.get, send_and_tell)
        finally:
            reading.cancel()


async def _read(receive: Receive, to_router: asyncio.Queue[Message]) -> None:
    """Pass on what the client sends, until it goes or sends too much."""
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_BODY_BYTES:
            to_router.put_nowait({"type": _TOO_LARGE})
            return
        to_router.put_nowait(message)
        if message["type"] == "http.disconnect":
            return


async def body_chunks(receive: Receive) -> AsyncIterator[bytes]:
    """A request's body; BodyTooLarge, or Cancelled when the client went away."""
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Cancelled("the body did not come")
        size += len(message.get("body", b""))
        if message["type"] == _TOO_LARGE or size > MAX_BODY_BYTES:
            raise BodyTooLarge
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


class Outlet:
    """The way of an answer to its client: `send` waits while too much of it is on the way."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._hears = _MARK in scope["headers"]
        self._num_on_the_way = 0
        self._has_room = asyncio.Event()

    @classmethod
    def of(cls, request: Request) -> Outlet:
        """To listen only."""
        return cls(request.scope, request.receive, _nowhere)

    async def send(self, message: Message) -> None:
        while self._hears and self._num_on_the_way >= _WINDOW:
            self._has_room.clear()
            await self._has_room.wait()
        self._num_on_the_way += 1
        await self._send(message)

    async def listen(self) -> None:
        """Hears what has left, until the client goes."""
        while (message := await self._receive())["type"] != "http.disconnect":
            if message["type"] == _TAKEN:
                self._num_on_the_way -= _STRIDE
                self._has_room.set()


async def _nowhere(message: Message) -> None:
    raise AssertionError(f"{message['type']} has no way")
