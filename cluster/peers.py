"""What the session loop needs of the replicas: `deployments/` implements it over gRPC, tests in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.errors import PolydraftError
from cluster.messages import Body, Message, Open
from cluster.routing import TargetLoad


@dataclass(frozen=True, slots=True)
class PeerLost:
    """The stream to the replica broke, or was silent for longer than the lease."""

    replica_id: str


Deliver = Callable[[Message | PeerLost], None]
"""Takes what arrives for one session. Called on the event loop; must not block."""


class PeerGone(Exception):
    """The replica that a session was to be opened at is lost already."""


class Channel(Protocol):
    """One session at one replica. After the peer is lost both calls do nothing."""

    def send(self, body: Body) -> None:
        """Queue a message; those of one turn of the event loop travel together."""

    def close(self, error: PolydraftError | None = None) -> None:
        """Tell the replica and deliver nothing more. May be called twice."""


class Peer(Protocol):
    """A replica that this router has a stream to."""

    @property
    def replica_id(self) -> str: ...

    @property
    def target_id(self) -> str: ...

    def open(self, session: int, epoch: int, body: Open, deliver: Deliver) -> Channel:
        """Begin a session, or begin it again under a higher epoch. Raises PeerGone."""


class TargetPeer(Peer, Protocol):
    """A target replica."""

    @property
    def load(self) -> TargetLoad: ...


class Fleet(Protocol):
    """The replicas that can take sessions now: connected, alive, not about to leave."""

    def targets(self) -> Sequence[TargetPeer]: ...

    def drafters(self, name: str) -> Sequence[Peer]: ...

    async def changed(self, timeout_s: float) -> None:
        """Returns when a replica has come or gone, or after the timeout."""
