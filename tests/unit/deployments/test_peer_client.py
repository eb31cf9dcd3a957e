"""The router's side of a stream against a real server on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from cluster.messages import Close, Credit, GoAway, Heartbeat, Message, Open, Resync, Sampling, Verdict
from cluster.peers import PeerGone, PeerLost
from deployments.directory import Registration
from deployments.fleet import GrpcFleet
from deployments.peer_client import Identity, PeerClient
from deployments.tls import connector
from tests.unit.deployments.fake_replica import HELLO, TOKEN, FakeReplica
from tests.unit.deployments.streams import until

IDENTITY = Identity("router", TOKEN, "target", "hash", heartbeat_s=0.05, lease_s=30.0)
OPEN = Open((1, 2), 2, Sampling(), 7, 0, 5, "default", credit_tokens=8)


class Peer:
    """A client with what it told."""

    def __init__(self, address: str, identity: Identity, clock: Callable[[], float]) -> None:
        registration = Registration("target", "target", "t1", address, "n1")
        self.changes = 0
        self.client = PeerClient(registration, identity, connector(None), clock, self._on_change)
        self.arrived: asyncio.Queue[Message | PeerLost] = asyncio.Queue()

    def _on_change(self) -> None:
        self.changes += 1


@asynccontextmanager
async def connected(
    replica: FakeReplica, identity: Identity = IDENTITY, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[Peer]:
    peer = Peer(await replica.start(), identity, clock)
    run = asyncio.create_task(peer.client.run())
    try:
        yield peer
    finally:
        run.cancel()
        with suppress(asyncio.CancelledError):
            await run
        await replica.stop()


async def next_for_session(replica: FakeReplica) -> Message:
    async with asyncio.timeout(20):
        while (message := await replica.received.get()).session == 0:
            pass
        return message


async def test_messages_travel_both_ways_and_one_turns_messages_together() -> None:
    replica = FakeReplica()
    async with connected(replica) as peer:
        await until(lambda: peer.client.is_ready)
        channel = peer.client.open(5, 1, OPEN, peer.arrived.put_nowait)
        channel.send(Credit(3))
        channel.send(Credit(4))

        assert [await next_for_session(replica) for _ in range(3)] == [
            Message(5, 1, OPEN),
            Message(5, 1, Credit(3)),
            Message(5, 1, Credit(4)),
        ]
        assert 3 in replica.frame_sizes or 4 in replica.frame_sizes
        verdict = Message(5, 1, Verdict(2, (9,), 0, 0, 3, 1, 1))
        replica.say(Message(99, 1, Resync(0)), verdict)
        assert await peer.arrived.get() == verdict
        assert peer.client.load.num_opened_since == 1
        replica.say(Message(0, 0, Heartbeat(1, 50, 2)))
        await until(lambda: peer.client.load.free_pages == 50)
        assert (peer.client.load.queue_length, peer.client.load.num_opened_since) == (2, 0)


async def test_closed_sessions_are_told_and_hear_nothing_more() -> None:
    replica = FakeReplica()
    async with connected(replica) as peer:
        await until(lambda: peer.client.is_ready)
        channel = peer.client.open(5, 1, OPEN, peer.arrived.put_nowait)
        other = peer.client.open(6, 1, OPEN, peer.arrived.put_nowait)
        channel.close()
        channel.close()
        channel.send(Credit(1))
        other.send(Credit(2))

        bodies = [(await next_for_session(replica)) for _ in range(4)]
        assert [message.body for message in bodies if message.session == 5] == [OPEN, Close()]
        replica.say(Message(5, 1, Resync(1)), Message(6, 1, Resync(2)))
        assert await peer.arrived.get() == Message(6, 1, Resync(2))


async def test_broken_stream_loses_its_sessions_and_returns_as_another_router() -> None:
    replica = FakeReplica()
    async with connected(replica) as peer:
        await until(lambda: peer.client.is_ready)
        channel = peer.client.open(5, 1, OPEN, peer.arrived.put_nowait)
        replica.hang_up()

        assert await peer.arrived.get() == PeerLost("t1")
        channel.send(Credit(1))
        channel.close()
        await until(lambda: peer.client.is_ready)
        assert len(replica.router_ids) == len(set(replica.router_ids)) == 2
        assert peer.changes >= 3


async def test_bytes_that_are_no_frame_end_their_stream_and_the_next_one_works() -> None:
    replica = FakeReplica()
    async with connected(replica) as peer:
        await until(lambda: peer.client.is_ready)
        peer.client.open(5, 1, OPEN, peer.arrived.put_nowait)
        replica.say(b"\xff\xff no frame")

        assert await peer.arrived.get() == PeerLost("t1")
        await until(lambda: peer.client.is_ready)
        peer.client.open(6, 1, OPEN, peer.arrived.put_nowait)
        replica.say(Message(6, 1, Resync(4)))
        assert await peer.arrived.get() == Message(6, 1, Resync(4))
        assert peer.client.refusal is None


async def test_dead_replica_is_gone_and_found_again_when_it_is_back() -> None:
    replica = FakeReplica()
    async with connected(replica) as peer:
        await until(lambda: peer.client.is_ready)
        peer.client.open(5, 1, OPEN, peer.arrived.put_nowait)
        await replica.stop()

        assert await peer.arrived.get() == PeerLost("t1")
        with pytest.raises(PeerGone):
            peer.client.open(6, 1, OPEN, peer.arrived.put_nowait)
        successor = FakeReplica()
        successor.port = replica.port
        await successor.start()
        await until(lambda: peer.client.is_ready)
        await successor.stop()


async def test_silence_beyond_the_lease_loses_the_sessions() -> None:
    now = [0.0]
    replica = FakeReplica()
    async with connected(replica, clock=lambda: now[0]) as peer:
        await until(lambda: peer.client.is_ready)
        peer.client.open(5, 1, OPEN, peer.arrived.put_nowait)
        now[0] = 31.0

        assert await peer.arrived.get() == PeerLost("t1")


async def test_a_replica_that_accepts_and_says_nothing_is_tried_again() -> None:
    """As behind a link that fails while a stream is being made."""
    connections: list[asyncio.StreamWriter] = []
    listener = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0)
    address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    run = asyncio.create_task(Peer(address, replace(IDENTITY, lease_s=0.1), time.monotonic).client.run())
    try:
        await until(lambda: len(connections) >= 3)
    finally:
        run.cancel()
        with suppress(asyncio.CancelledError):
            await run
        listener.close()
        for writer in connections:
            writer.close()


async def test_leaving_replica_takes_no_new_sessions_and_tells_the_old_ones() -> None:
    replica = FakeReplica()
    async with connected(replica) as peer:
        await until(lambda: peer.client.is_ready)
        peer.client.open(5, 3, OPEN, peer.arrived.put_nowait)
        replica.say(Message(0, 0, GoAway(5.0)))

        assert await peer.arrived.get() == Message(5, 3, GoAway(5.0))
        assert not peer.client.is_ready and peer.client.is_connected


@pytest.mark.parametrize(
    ("hello", "words"),
    [
        (replace(HELLO, tokenizer_hash="other"), "tokenizer hash is other"),
        (replace(HELLO, target_id="other"), "target id is other"),
        (replace(HELLO, protocol=2), "protocol is 2"),
    ],
)
async def test_peer_of_another_kind_is_refused(hello: object, words: str) -> None:
    replica = FakeReplica(hello)  # type: ignore[arg-type]  # parametrize tells object
    async with connected(replica) as peer:
        await until(lambda: peer.client.refusal is not None)

        assert words in str(peer.client.refusal) and not peer.client.is_connected


async def test_wrong_cluster_token_is_not_tried_again() -> None:
    replica = FakeReplica()
    async with connected(replica, replace(IDENTITY, token="guess")) as peer:
        await until(lambda: peer.client.refusal is not None)

        assert "cluster token" in str(peer.client.refusal)


async def test_fleet_follows_the_registrations() -> None:
    replica = FakeReplica()
    address = await replica.start()
    fleet = GrpcFleet(IDENTITY, connector(None))
    target = Registration("target", "target", "t1", address, "n1")
    try:
        fleet.update([target, Registration("router", "router", "r1", "127.0.0.1:1")])
        assert fleet.connected() == ()
        await until(lambda: len(fleet.targets()) == 1)
        assert fleet.drafters("de") == []
        assert fleet.connected() == ("target",)

        # A registration that is missing does not end a stream that works; a lost replica that is not registered goes.
        fleet.update([])
        assert len(fleet.targets()) == 1
        await replica.stop()
        await until(lambda: not fleet.targets())
        fleet.update([])
        await fleet.changed(0.01)
    finally:
        await fleet.stop()
        await replica.stop()
