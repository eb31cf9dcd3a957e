"""The replicas' side of the internal streams, over a real connection on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import pytest
import pytest_asyncio

from benchmarks.fuzz.calls import Call, ask
from benchmarks.fuzz.raw_http2 import exchange, request
from cluster.errors import ContextTooLong
from cluster.messages import TOKEN_METADATA, Close, Credit, Heartbeat, Hello, Message, Open, Resync, Sampling
from deployments.convert import frame_from_pb
from deployments.guard import Guard
from deployments.peer_server import PeerServer, SessionKey, _Router
from deployments.replica import Servicer
from deployments.servers import Server
from protos.v1 import internal_pb2 as pb
from protos.v1.internal_pb2_grpc import TargetStub, add_TargetServicer_to_server
from tests.unit.deployments.recorder import Recorder
from tests.unit.deployments.streams import TOKEN, Router

HEARTBEAT_S = 0.05
LEASE_S = 0.3
OPEN = Open((1, 2, 3), 3, Sampling(), 5, 0, 10, "default")


@dataclass(frozen=True, slots=True)
class Served:
    """A replica and where it answers."""

    recorder: Recorder
    peers: PeerServer
    address: str
    channel: grpc.aio.Channel


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    recorder = Recorder()
    peers = PeerServer(recorder, TOKEN, HEARTBEAT_S, LEASE_S, asyncio.get_running_loop().time)
    server = Server(Guard(), ())
    add_TargetServicer_to_server(Servicer(peers), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    peers.start()
    async with grpc.aio.insecure_channel(address) as channel:
        yield Served(recorder, peers, address, channel)
    await peers.stop(0.0)
    await server.stop(None)


Replica = tuple[Recorder, PeerServer, TargetStub]


@pytest.fixture
def replica(served: Served) -> Replica:
    return served.recorder, served.peers, TargetStub(served.channel)


async def test_sessions_are_opened_fed_and_closed(replica: Replica) -> None:
    recorder, peers, stub = replica
    router = Router(stub)
    await router.greet()
    key = SessionKey("router-1", 7)

    await router.send(Message(7, 1, OPEN), Message(7, 1, Credit(4)))
    await recorder.until("message", key, Credit(4))
    peers.send(key, 1, Credit(9))
    assert await router.receive() == Message(7, 1, Credit(9))
    await router.send(Message(7, 1, Close()))

    await recorder.until("close", key)
    assert peers.num_sessions == 0


async def test_messages_of_an_old_epoch_are_dropped_both_ways(replica: Replica) -> None:
    recorder, peers, stub = replica
    router = Router(stub)
    await router.greet()
    key = SessionKey("router-1", 7)

    await router.send(Message(7, 1, OPEN), Message(7, 2, OPEN), Message(7, 1, Credit(4)), Message(7, 2, Credit(5)))
    await recorder.until("message", key, Credit(5))
    peers.send(key, 1, Credit(8))
    peers.send(key, 2, Credit(9))

    assert await router.receive() == Message(7, 2, Credit(9))
    assert ("message", key, Credit(4)) not in recorder.calls
    assert [call[0] for call in recorder.calls] == ["open", "close", "open", "message"]


async def test_a_session_that_cannot_be_opened_is_closed_with_the_reason(replica: Replica) -> None:
    _, peers, stub = replica
    router = Router(stub)
    await router.greet()

    await router.send(Message(7, 1, Open((), 0, Sampling(), 5, 0, 10, "default")))

    body = (await router.receive()).body
    assert isinstance(body, Close)
    assert isinstance(body.error, ContextTooLong)
    assert peers.num_sessions == 0


async def test_a_session_whose_message_cannot_be_handled_is_closed_on_both_sides(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, peers, stub = replica
    router = Router(stub)
    await router.greet()

    def fail(key: SessionKey, body: object) -> None:
        raise ContextTooLong("no more of it") if key.session == 7 else ValueError("/secret/path")

    monkeypatch.setattr(recorder, "message", fail)
    await router.send(Message(7, 1, OPEN), Message(8, 1, OPEN), Message(9, 1, OPEN))
    await router.send(Message(7, 1, Credit(1)), Message(8, 1, Credit(1)))

    told = {message.session: message.body for message in [await router.receive(), await router.receive()]}
    assert isinstance(told[7], Close) and isinstance(told[7].error, ContextTooLong)
    assert isinstance(told[8], Close) and str(told[8].error) == "internal error"
    assert [call for call in recorder.calls if call[0] == "close"] == [
        ("close", SessionKey("router-1", 7)),
        ("close", SessionKey("router-1", 8)),
    ]
    assert peers.num_sessions == 1


async def test_sessions_outlive_a_broken_stream_for_a_lease_and_no_longer(replica: Replica) -> None:
    recorder, peers, stub = replica
    first = Router(stub)
    await first.greet()
    await first.send(Message(7, 1, OPEN))
    key = SessionKey("router-1", 7)
    await recorder.until("open", key, 1)

    first.call.cancel()
    second = Router(stub)
    await second.greet()
    await second.send(Message(7, 1, Resync(3)))
    await recorder.until("message", key, Resync(3))
    assert peers.num_sessions == 1
    second.call.cancel()

    await recorder.until("close", key)
    assert peers.num_sessions == 0


async def test_a_router_that_was_silent_too_long_hears_the_end_of_its_stream(replica: Replica) -> None:
    recorder, peers, stub = replica
    router = Router(stub)
    await router.greet()
    await router.send(Message(7, 1, OPEN))
    await recorder.until("open", SessionKey("router-1", 7), 1)

    while await router.call.read() is not grpc.aio.EOF:
        pass

    assert peers.num_sessions == 0


async def test_a_router_without_the_token_is_refused(replica: Replica) -> None:
    *_, stub = replica
    router = Router(stub, token="wrong")

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await router.call.read()

    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_token_of_any_bytes_is_refused_in_our_words(served: Served) -> None:
    answer = await exchange(served.address, request(b"/polydraft.v1.Target/Sessions", b"\xc3\xa9", b""))

    assert b"TypeError" not in answer
    assert b"token is missing or wrong" in answer


async def test_bytes_that_are_no_greeting_are_refused_in_our_words(served: Served) -> None:
    call = Call("/polydraft.v1.Target/Sessions", (b"\xff" * 9,), ((TOKEN_METADATA, TOKEN),))

    outcome = await ask(served.channel, call)

    assert outcome.status is grpc.StatusCode.INVALID_ARGUMENT
    assert "DecodeError" not in outcome.detail


@pytest.mark.parametrize(
    "hello", [Hello("router-1", protocol=2), Hello(""), Hello("router-1", tokenizer_hash="another")]
)
async def test_a_wrong_greeting_is_refused(replica: Replica, hello: Hello) -> None:
    *_, stub = replica
    router = Router(stub)
    await router.send(Message(0, 0, hello))

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await router.call.read()

    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_stream_that_always_has_something_to_say_beats_too() -> None:
    """Heartbeats carry the load that routers choose replicas by."""
    peers = PeerServer(Recorder(), TOKEN, HEARTBEAT_S, LEASE_S, asyncio.get_running_loop().time)
    stream, reader = _Router(), asyncio.create_task(asyncio.sleep(60))
    outgoing = peers._outgoing(stream, reader)

    bodies: list[object] = []
    for _ in range(16):
        stream.outgoing.put_nowait(Message(1, 1, Credit(1)))
        bodies += [message.body for message in await anext(outgoing)]
        await asyncio.sleep(HEARTBEAT_S / 4)
    reader.cancel()
    await outgoing.aclose()

    assert bodies.count(Heartbeat(1, 2, 3)) >= 2
    assert bodies.count(Credit(1)) == 16


async def test_a_silent_stream_still_hears_heartbeats(replica: Replica) -> None:
    *_, stub = replica
    router = Router(stub)
    await router.greet()

    frame = await router.call.read()

    assert isinstance(frame, pb.Frame)
    assert [message.body for message in frame_from_pb(frame)] == [Heartbeat(1, 2, 3)]
