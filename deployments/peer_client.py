"""The router's side of an internal stream: one connection to one replica, multiplexed over sessions.

It connects, greets, checks who answers, and then carries messages until the stream breaks or is silent for longer
than the lease; every session then hears `PeerLost`. It connects again for as long as it is not stopped. A returned
stream has a router id of its own, so that the replica closes what the broken one left behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import grpc

from cluster.errors import PolydraftError
from cluster.leases import Lease
from cluster.messages import PROTOCOL, TOKEN_METADATA, Body, Close, GoAway, Heartbeat, Hello, Message, Open
from cluster.peers import Deliver, PeerGone, PeerLost
from cluster.routing import TargetLoad
from deployments.convert import frame_from_pb, frame_to_pb
from deployments.directory import Registration
from deployments.tls import Connect
from protos.v1 import internal_pb2 as pb
from protos.v1.internal_pb2_grpc import DrafterStub, TargetStub

logger = logging.getLogger(__name__)

_RETRY_S = 0.2
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
)
# Statuses with which a replica refuses this router for good.
_REFUSALS = frozenset({grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNAUTHENTICATED})


@dataclass(frozen=True, slots=True)
class Identity:
    """What this router is, and what its peers must agree with."""

    router_id: str
    token: str
    target_id: str
    tokenizer_hash: str
    heartbeat_s: float
    lease_s: float


class _Refused(Exception):
    """The peer is not what this cluster needs."""


class _Channel:
    """One session on the stream."""

    def __init__(self, client: PeerClient, session: int, epoch: int, deliver: Deliver) -> None:
        self._client = client
        self.session = session
        self.epoch = epoch
        self.deliver = deliver
        self.is_open = True

    def send(self, body: Body) -> None:
        if self.is_open:
            self._client.enqueue(Message(self.session, self.epoch, body))

    def close(self, error: PolydraftError | None = None) -> None:
        self.send(Close(error))
        self.is_open = False
        self._client.forget(self)


class PeerClient:
    """A replica as the session loop sees it. Lives on one event loop; `run` until cancelled."""

    def __init__(
        self,
        registration: Registration,
        identity: Identity,
        connect: Connect,
        clock: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        self.registration = registration
        self._identity = identity
        self._connect = connect
        self._clock = clock
        self._on_change = on_change
        self._channels: dict[int, _Channel] = {}
        self._outbox: list[Message] = []
        self._wake = asyncio.Event()
        self._hello: Hello | None = None
        self._load = TargetLoad(registration.replica_id, registration.numerics_id, 0, 0, 0)
        self._num_streams = 0
        self._failure: str | None = None
        """Why the last stream broke."""
        self.is_leaving = False
        self.refusal: str | None = None
        """Set: the replica is not asked again, for this reason."""

    @property
    def replica_id(self) -> str:
        return self.registration.replica_id

    @property
    def target_id(self) -> str:
        return self._hello.target_id if self._hello is not None else ""

    @property
    def load(self) -> TargetLoad:
        return self._load

    @property
    def is_connected(self) -> bool:
        return self._hello is not None

    @property
    def is_ready(self) -> bool:
        """Whether sessions may be opened."""
        return self.is_connected and not self.is_leaving

    def open(self, session: int, epoch: int, body: Open, deliver: Deliver) -> _Channel:
        if not self.is_connected:
            raise PeerGone(self.replica_id)
        channel = _Channel(self, session, epoch, deliver)
        self._channels[session] = channel
        self._load = replace(self._load, num_opened_since=self._load.num_opened_since + 1)
        self.enqueue(Message(session, epoch, body))
        return channel

    def enqueue(self, message: Message) -> None:
        """To be written with whatever else is queued in this turn of the event loop."""
        self._outbox.append(message)
        self._wake.set()

    def forget(self, channel: _Channel) -> None:
        """Deliver nothing more to a closed session."""
        if self._channels.get(channel.session) is channel:
            del self._channels[channel.session]

    async def run(self) -> None:
        """Keep a stream to the replica until cancelled, or until it proves to be the wrong one."""
        stub = TargetStub if self.registration.kind == "target" else DrafterStub
        while self.refusal is None:
            try:
                # A connection for each stream: it is made with the certificates of now.
                async with self._connect(self.registration.address, _CHANNEL_OPTIONS) as channel:
                    await self._stream(stub(channel))
            except _Refused as refused:
                self.refusal = str(refused)
            except grpc.aio.AioRpcError as error:
                self._ended(error.code(), error.details())
            except Exception:
                logger.exception("the stream to %s %s failed", self.registration.name, self.replica_id)
            finally:
                self._lose()
            if self.refusal is None:
                await asyncio.sleep(_RETRY_S)
        logger.error("%s %s is not used: %s", self.registration.name, self.replica_id, self.refusal)

    async def _stream(self, stub: TargetStub | DrafterStub) -> None:
        """One stream from greeting to end."""
        self._num_streams += 1
        hello = Hello(
            peer_id=f"{self._identity.router_id}.{self._num_streams}",
            target_id=self._identity.target_id,
            tokenizer_hash=self._identity.tokenizer_hash,
        )
        self._outbox.clear()
        self.enqueue(Message(0, 0, hello))
        call = stub.Sessions(metadata=((TOKEN_METADATA, self._identity.token),))
        lease = Lease(self._identity.lease_s, self._clock())
        beats = asyncio.create_task(self._beat(call, lease))
        # Nothing is written from here: a write waits for the connection, for ever if the call is cancelled meanwhile.
        writes = asyncio.create_task(self._write(call))
        try:
            while (frame := await call.read()) is not grpc.aio.EOF:
                if frame is None:  # what gRPC makes of bytes that are no frame
                    logger.warning("%s %s sent bytes that are no frame", self.registration.name, self.replica_id)
                    break
                lease.renew(self._clock())
                for message in frame_from_pb(frame):
                    self._receive(message)
        except asyncio.CancelledError:
            # Cancelled by `_beat` the call ends with this error too; only a cancelled task may pass it on.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
        finally:
            beats.cancel()
            writes.cancel()
            call.cancel()

    async def _write(self, call: grpc.aio.StreamStreamCall[pb.Frame, pb.Frame]) -> None:
        """Everything that was queued since the last turn goes out as one frame."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                messages, self._outbox = self._outbox, []
                if messages:
                    await call.write(frame_to_pb(messages))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass
        finally:
            call.cancel()  # whatever ended the writing: the reader ends the stream

    async def _beat(self, call: grpc.aio.StreamStreamCall[pb.Frame, pb.Frame], lease: Lease) -> None:
        """Our own signs of life, and the end of a stream that shows none."""
        while not lease.is_lost(self._clock()):
            await asyncio.sleep(self._identity.heartbeat_s)
            if self.is_connected:
                self.enqueue(Message(0, 0, Heartbeat(num_sessions=len(self._channels))))
        logger.warning("%s %s is silent; its sessions move", self.registration.name, self.replica_id)
        call.cancel()

    def _receive(self, message: Message) -> None:
        match message.body:
            case Hello() as hello:
                self._greeted(hello)
            case Heartbeat() as beat:
                self._load = replace(
                    self._load,
                    free_pages=beat.free_pages,
                    queue_length=beat.queue_length,
                    num_sessions=beat.num_sessions,
                    num_opened_since=0,
                    is_plain=beat.is_plain,
                )
            case GoAway():
                self.is_leaving = True
                self._on_change()
                for channel in list(self._channels.values()):
                    channel.deliver(Message(channel.session, channel.epoch, message.body))
            case body:
                addressee = self._channels.get(message.session)
                if addressee is not None:
                    addressee.deliver(Message(message.session, message.epoch, body))

    def _greeted(self, hello: Hello) -> None:
        identity = self._identity
        for name, found, expected in (
            ("protocol", hello.protocol, PROTOCOL),
            ("target id", hello.target_id, identity.target_id),
            ("tokenizer hash", hello.tokenizer_hash, identity.tokenizer_hash),
        ):
            if found != expected:
                raise _Refused(f"its {name} is {found}, this router's is {expected}; give all tiers the same target")
        self._hello, self._failure = hello, None
        self._load = replace(self._load, numerics_id=hello.numerics_id)
        self._on_change()

    def _ended(self, code: grpc.StatusCode, details: str | None) -> None:
        """A stream failed: for good, or for a reason that may pass and is told once while it stays the same."""
        if code in _REFUSALS:
            self.refusal = f"it refused this router ({details})"
        elif details != self._failure:
            self._failure = details
            logger.warning("no stream to %s %s: %s", self.registration.name, self.replica_id, details)

    def _lose(self) -> None:
        was_connected, self._hello = self.is_connected, None
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.is_open = False
            channel.deliver(PeerLost(self.replica_id))
        if was_connected:
            self._on_change()
