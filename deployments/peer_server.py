"""The server side of the internal streams, shared by targets and drafters: greeting, heartbeats, leases, sessions.

Sessions belong to the router's stream. When the stream breaks they live on for a lease: a router that returns with the
same id finds them again (`Resync`); otherwise they are closed. Everything here runs on one event loop.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError

from cluster.errors import InternalError, PolydraftError
from cluster.messages import (
    PROTOCOL,
    TOKEN_METADATA,
    Block,
    Close,
    Credit,
    GoAway,
    Heartbeat,
    Hello,
    Message,
    Observe,
    Open,
    Resync,
)
from deployments.convert import frame_from_pb, frame_to_pb
from protos.v1 import internal_pb2 as pb

logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[pb.Frame, pb.Frame]


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A session as its router named it."""

    router_id: str
    session: int


class SessionHandler(Protocol):
    """What a replica does with its sessions. Called on the event loop; must not block."""

    def hello(self) -> Hello:
        """Who this replica is."""

    def load(self) -> Heartbeat:
        """How busy it is."""

    def open(self, key: SessionKey, epoch: int, request: Open) -> None: ...

    def message(self, key: SessionKey, body: Block | Credit | Observe | Resync) -> None: ...

    def close(self, key: SessionKey) -> None: ...


@dataclass(slots=True)
class _Router:
    """A router's stream, or what it left behind."""

    outgoing: asyncio.Queue[Message | None] = field(default_factory=asyncio.Queue)
    """None ends the stream."""
    epochs: dict[int, int] = field(default_factory=dict)
    """Open sessions and their epochs."""
    num_streams: int = 0
    heard_at: float = 0.0


class PeerServer:
    """The `Sessions` method of both services. `send` and `fail` may be called for sessions that are gone."""

    def __init__(
        self,
        handler: SessionHandler,
        token: str,
        heartbeat_s: float,
        lease_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._handler = handler
        self._token = token
        self._heartbeat_s = heartbeat_s
        self._lease_s = lease_s
        self._clock = clock
        self._routers: dict[str, _Router] = {}
        self._collector: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to collect sessions whose lease has run out."""
        self._collector = asyncio.create_task(self._collect_orphans())

    async def stop(self, deadline_s: float) -> None:
        """Tell all routers to move their sessions, wait until they have or the deadline passes."""
        for router in self._routers.values():
            router.outgoing.put_nowait(Message(0, 0, GoAway(deadline_s)))
        end = self._clock() + deadline_s
        while self._clock() < end and any(router.epochs for router in self._routers.values()):
            await asyncio.sleep(0.05)
        if self._collector is not None:
            self._collector.cancel()

    @property
    def num_sessions(self) -> int:
        return sum(len(router.epochs) for router in self._routers.values())

    # -- towards routers -----------------------------------------------------------------------------------------

    def send(self, key: SessionKey, epoch: int, body: Any) -> None:
        """Queue a message for a session; dropped if the session was reopened under another epoch."""
        router = self._routers.get(key.router_id)
        if router is not None and router.epochs.get(key.session) == epoch:
            router.outgoing.put_nowait(Message(key.session, epoch, body))

    def fail(self, key: SessionKey, epoch: int, error: PolydraftError) -> None:
        """End a session with an error for the caller."""
        self.send(key, epoch, Close(error))
        router = self._routers.get(key.router_id)
        if router is not None and router.epochs.get(key.session) == epoch:
            del router.epochs[key.session]

    # -- from routers --------------------------------------------------------------------------------------------

    async def serve(self, frames: AsyncIterator[pb.Frame], context: Context) -> AsyncIterator[pb.Frame]:
        """One stream of one router, until either side ends it."""
        await self._check_token(context)
        first = await anext(aiter(frames), None)
        hello = self._greeting(first)
        if hello is None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"expected a greeting of protocol {PROTOCOL}")
        assert hello is not None
        router = self._routers.setdefault(hello.peer_id, _Router())
        router.num_streams += 1
        router.heard_at = self._clock()
        reader = asyncio.create_task(self._read(hello.peer_id, router, frames))
        try:
            yield frame_to_pb([Message(0, 0, self._handler.hello())])
            async with aclosing(self._outgoing(router, reader)) as outgoing:
                async for messages in outgoing:
                    yield frame_to_pb(messages)
        finally:
            reader.cancel()
            router.num_streams -= 1
            router.heard_at = self._clock()

    async def _check_token(self, context: Context) -> None:
        metadata = dict(context.invocation_metadata() or ())
        token = str(metadata.get(TOKEN_METADATA, "")).encode()  # of other text than ASCII only bytes can be compared
        if not hmac.compare_digest(token, self._token.encode()):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the cluster token is missing or wrong")

    def _greeting(self, frame: pb.Frame | None) -> Hello | None:
        messages = frame_from_pb(frame) if frame is not None else []
        if not messages or not isinstance(messages[0].body, Hello):
            return None
        hello = messages[0].body
        mine = self._handler.hello()
        same_tokenizer = hello.tokenizer_hash in ("", mine.tokenizer_hash)
        return hello if hello.protocol == PROTOCOL and hello.peer_id and same_tokenizer else None

    async def _outgoing(self, router: _Router, reader: asyncio.Task[None]) -> AsyncGenerator[list[Message], None]:
        """What is queued, all of one moment together; heartbeats in between, also while there is always something."""
        beats = asyncio.create_task(self._beat(router))
        try:
            while not reader.done():
                queued = [await router.outgoing.get()]
                while not router.outgoing.empty():
                    queued.append(router.outgoing.get_nowait())
                if messages := [message for message in queued if message is not None]:
                    yield messages
                if None in queued:
                    return
        finally:
            beats.cancel()

    async def _beat(self, router: _Router) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            router.outgoing.put_nowait(Message(0, 0, self._handler.load()))

    async def _read(self, router_id: str, router: _Router, frames: AsyncIterator[pb.Frame]) -> None:
        try:
            async for frame in frames:
                router.heard_at = self._clock()
                for message in frame_from_pb(frame):
                    self._take(router_id, router, message)
        except DecodeError:
            # What was lost with it is not known: the stream ends, and its router comes again.
            logger.warning("%s sent bytes that are no frame", router_id)

    def _take(self, router_id: str, router: _Router, message: Message) -> None:
        """Handle a message; one that cannot be handled ends its session."""
        key = SessionKey(router_id, message.session)
        try:
            self._handle(router_id, router, message)
        except PolydraftError as error:
            self._handler.close(key)
            self.fail(key, message.epoch, error)
        except Exception:
            logger.exception("session %d of %s failed", message.session, router_id)
            self._handler.close(key)
            self.fail(key, message.epoch, InternalError("internal error"))

    def _handle(self, router_id: str, router: _Router, message: Message) -> None:
        key = SessionKey(router_id, message.session)
        known = router.epochs.get(message.session)
        match message.body:
            case Open() as request:
                if known is not None:
                    if message.epoch <= known:
                        return
                    self._handler.close(key)
                router.epochs[message.session] = message.epoch
                self._handler.open(key, message.epoch, request)
            case Close():
                if known is not None and message.epoch >= known:
                    del router.epochs[message.session]
                    self._handler.close(key)
            case Block() | Credit() | Observe() | Resync() as body:
                if known == message.epoch:
                    self._handler.message(key, body)
            case _:
                pass  # heartbeats count by arriving

    async def _collect_orphans(self) -> None:
        """Close sessions of routers that are gone, or silent, for longer than a lease.

        The stream of one that was only silent ends too: it must not wait for sessions that are no more.
        """
        while True:
            await asyncio.sleep(self._heartbeat_s / 2)
            now = self._clock()
            for router_id, router in list(self._routers.items()):
                if now - router.heard_at <= self._lease_s:
                    continue
                for session in list(router.epochs):
                    self._handler.close(SessionKey(router_id, session))
                if router.epochs:
                    logger.warning("closed %d sessions of a router that is gone", len(router.epochs))
                router.epochs.clear()
                if router.num_streams == 0:
                    del self._routers[router_id]
                else:
                    router.outgoing.put_nowait(None)
