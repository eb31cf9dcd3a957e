"""Whatever frames a router sends, replicas of both tiers live on: other streams and later sessions notice nothing.

Frames are drawn so that many come far: they name sessions that are open, tokens that exist, blocks that fit.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import replace
from itertools import count
from typing import Any, TypeVar

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.config import Config
from cluster.messages import (
    TOKEN_METADATA,
    Block,
    Body,
    Close,
    Credit,
    GoAway,
    Heartbeat,
    Hello,
    LocalDraft,
    Message,
    Observe,
    Open,
    Resync,
    Sampling,
    Verdict,
)
from deployments.convert import frame_to_pb
from deployments.corrections import correction_to_bytes
from deployments.draft_service import DraftService
from deployments.target_service import TargetService
from deployments.trees import tree_from_bytes, tree_to_bytes
from engine.corrections import Correction, LikelyTokens
from engine.engine import Engine
from engine.hashing import EMPTY_HASH, extend_hash
from engine.tree import TokenTree
from protos.v1 import internal_pb2 as pb
from protos.v1.internal_pb2_grpc import DrafterStub, TargetStub
from tests.tiny_targets import VOCAB_SIZE
from tests.unit.deployments.replicas import serve, tiny_config
from tests.unit.deployments.streams import TOKEN, Router

T = TypeVar("T")

PROMPT = (5, 9, 11, 20, 41)
SESSIONS = (1, 2, 3)
"""Of hostile messages; as many as the target takes."""
OWN = 77
PLAIN = LocalDraft()
OPEN = Open(PROMPT, len(PROMPT), Sampling(0.8), 77, 0, 12, "default", 4, "de", PLAIN, credit_tokens=1_000)


class Loop:
    """An event loop in a thread of its own, as hypothesis calls what is not asynchronous."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Replica:
    """A service with the stream of a well-behaved router."""

    def __init__(self, loop: Loop, config: Config, kind: type[TargetService] | type[DraftService]) -> None:
        self._loop = loop
        self._stub = TargetStub if kind is TargetService else DrafterStub
        self.service, self._serving, self.router = loop.run(self._start(config, kind))
        self._numbers = count(1)

    async def _start(
        self, config: Config, kind: type[TargetService] | type[DraftService]
    ) -> tuple[TargetService | DraftService, AsyncIterator[Router], Router]:
        service: TargetService | DraftService
        if kind is TargetService:
            service = TargetService(config, "target-1", TOKEN)
        else:
            service = DraftService(config, "de", "de-1", TOKEN)
        serving = serve(service, self._stub)
        return service, serving, await anext(aiter(serving))

    def stop(self) -> None:
        """Ends the service, and raises if its engine or its drafter has died."""

        async def finish() -> None:
            async for _ in self._serving:
                pass

        self._loop.run(finish())

    async def hostile(self) -> Router:
        """Another router's stream."""
        router = Router(self._stub(self.router.channel))
        await router.greet(f"hostile-{next(self._numbers)}")
        return router


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.stop()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tiny_config(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def target(loop: Loop, config: Config) -> Iterator[Replica]:
    replica = Replica(loop, config, TargetService)
    yield replica
    replica.stop()


@pytest.fixture(scope="module")
def drafter(loop: Loop, config: Config) -> Iterator[Replica]:
    replica = Replica(loop, config, DraftService)
    yield replica
    replica.stop()


# -- frames ------------------------------------------------------------------------------------------------------

u32, u64 = st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)
small = st.integers(0, 8)
tokens = st.lists(st.integers(0, VOCAB_SIZE - 1) | u32, max_size=6).map(tuple)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.floats() | st.sampled_from([0.0, 0.5, 1.0])
local = st.builds(LocalDraft, st.sampled_from(["", "lookup"]) | texts, small | u32)
trees = st.builds(
    lambda nodes, ranks: tree_bytes([token for token, _ in nodes], [parent for _, parent in nodes], ranks),
    st.lists(st.tuples(st.integers(0, VOCAB_SIZE - 1) | u32, st.integers(-2, 5)), max_size=8),
    st.lists(small, max_size=8),
)
corrections = st.builds(
    lambda position, ids, probs: correction_to_bytes(Correction(position, LikelyTokens(ids, probs))),
    u64,
    tokens,
    st.lists(st.floats(width=32), max_size=6).map(tuple),
)
data = st.binary(max_size=12)
opens = st.builds(
    Open,
    st.just(PROMPT) | tokens,
    st.just(len(PROMPT)) | u32,
    st.builds(Sampling, numbers, small | u32, numbers),
    u64,
    small | u64,
    st.just(12) | u32,
    texts,
    small | u32,
    texts,
    st.none() | local,
    st.just(20) | u32,
    small | u32,
) | st.just(replace(OPEN, local=None))
base_lengths = st.just(len(PROMPT)) | u64
base_hashes = st.just(extend_hash(EMPTY_HASH, PROMPT)) | u64
bodies: st.SearchStrategy[Body] = st.one_of(
    opens,
    opens,
    st.builds(Block, base_lengths, base_hashes, trees | data, drafter_version=texts),
    st.builds(Block, base_lengths, base_hashes, st.just(b""), local),
    st.builds(Observe, base_lengths, tokens, small | u32, small | u32, st.booleans(), corrections | data),
    st.builds(Credit, small | u32),
    st.builds(Resync, base_lengths),
    st.builds(Close),
    st.builds(Hello, texts),
    st.builds(Heartbeat, u32),
    st.builds(GoAway, st.floats()),
    st.builds(Verdict, u64, tokens, u32, u32, u64, u64, u64),
)
messages = st.builds(Message, st.sampled_from(SESSIONS) | u64, st.integers(1, 2) | u32, bodies)
unknown = st.sampled_from(
    [
        pb.Message(session=1, epoch=1),
        pb.Message(session=1, epoch=1, close=pb.Close(error=99)),  # type: ignore[arg-type]  # of a later version
        pb.Message(session=1, epoch=1, verdict=pb.Verdict(finish_reason=99)),  # type: ignore[arg-type]  # likewise
    ]
)


def tree_bytes(token_ids: list[int], parents: list[int], ranks: list[int]) -> bytes:
    return pb.TokenTree(token_ids=token_ids, parents=parents, ranks=ranks).SerializeToString()


async def send_all(router: Router, frames: list[list[Message]], extra: pb.Message) -> None:
    for frame in frames:
        await router.send(*frame)
    await router.call.write(pb.Frame(messages=[extra]))
    # Room for the session that follows; also for sessions of the largest epoch.
    named = {message.session for frame in frames for message in frame} | set(SESSIONS)
    await router.send(*(Message(session, (1 << 32) - 1, Close()) for session in named))


async def bodies_of(router: Router, session: int) -> AsyncIterator[Body]:
    while True:
        message = await router.receive()
        if message.session == session:
            yield message.body


# -- laws --------------------------------------------------------------------------------------------------------


async def answer_of(router: Router) -> list[int]:
    """A whole answer, plainly decoded."""
    await router.send(Message(OWN, 1, OPEN))
    found: list[int] = []
    async for body in bodies_of(router, OWN):
        assert isinstance(body, Verdict), body
        found += body.token_ids
        if body.finish_reason is not None:
            break
    await router.send(Message(OWN, 1, Close()))
    return found


def check_engine(service: TargetService | DraftService) -> None:
    """Nothing is left of closed sessions, and all counts agree; in the engine's thread."""
    assert isinstance(service, TargetService)
    checked: Future[None] = Future()

    def check(engine: Engine) -> None:
        try:
            engine.check_integrity()
            assert engine.num_sessions == 0
            assert engine.num_free_pages == engine.scheduler.pool.num_usable
            checked.set_result(None)
        except AssertionError as error:
            checked.set_exception(error)

    service._loop.submit(check)
    checked.result(60)
    service.check_health()


@settings(max_examples=40, deadline=None)
@given(frames=st.lists(st.lists(messages, max_size=6), max_size=4), extra=unknown)
def test_a_target_lives_on(loop: Loop, target: Replica, frames: list[list[Message]], extra: pb.Message) -> None:
    async def attack() -> tuple[list[int], list[int]]:
        hostile = await target.hostile()
        await send_all(hostile, frames, extra)
        return await answer_of(hostile), await answer_of(target.router)

    on_the_same_stream, on_another = loop.run(attack())

    assert on_the_same_stream == on_another == loop.run(answer_of(target.router))
    assert len(on_another) > 0
    check_engine(target.service)


async def block_of(router: Router) -> TokenTree | None:
    """The block behind the first verdict of a session."""
    await router.send(Message(OWN, 1, replace(OPEN, local=None)), Message(OWN, 1, Observe(len(PROMPT), (7,), 0, 4)))
    async for body in bodies_of(router, OWN):
        assert isinstance(body, Block), body
        assert (body.base_length, body.base_hash) == (6, extend_hash(EMPTY_HASH, (*PROMPT, 7)))
        await router.send(Message(OWN, 1, Close()))
        return tree_from_bytes(body.tree)
    raise AssertionError("the stream ended")


@settings(max_examples=40, deadline=None)
@given(frames=st.lists(st.lists(messages, max_size=6), max_size=4), extra=unknown)
def test_a_drafter_lives_on(loop: Loop, drafter: Replica, frames: list[list[Message]], extra: pb.Message) -> None:
    async def attack() -> tuple[TokenTree | None, TokenTree | None]:
        hostile = await drafter.hostile()
        await send_all(hostile, frames, extra)
        return await block_of(hostile), await block_of(drafter.router)

    on_the_same_stream, on_another = loop.run(attack())

    assert on_the_same_stream == on_another is not None
    assert len(on_another) > 0
    drafter.service.check_health()


@pytest.mark.parametrize("garbage", [b"\xff\xff no frame", b"\x0a\x06\x22\x04\x3a\x02\xff\xfe"], ids=["bytes", "utf8"])
def test_bytes_that_are_no_frame_end_their_stream_alone(loop: Loop, target: Replica, garbage: bytes) -> None:
    """The second one is a frame but for the name of a tenant."""

    async def attack() -> tuple[list[int], list[int]]:
        call = target.router.channel.stream_stream(
            "/polydraft.v1.Target/Sessions",
            request_serializer=lambda data: data,
            response_deserializer=pb.Frame.FromString,
        )(metadata=((TOKEN_METADATA, TOKEN),))
        for messages in ([Message(0, 0, Hello("garbled"))], [Message(1, 1, OPEN)]):
            await call.write(frame_to_pb(messages).SerializeToString())
        await call.read()
        await call.write(garbage)
        async with asyncio.timeout(20):
            while await call.read() is not grpc.aio.EOF:
                pass
        return await answer_of(target.router), await answer_of(await target.hostile())

    on_another, on_a_new_one = loop.run(attack())

    assert on_another == on_a_new_one != []
    check_engine(target.service)


def test_a_huge_tree_is_no_tree() -> None:
    chain = TokenTree.chain([5] * 64)

    assert tree_from_bytes(tree_to_bytes(chain)) == chain
    assert tree_from_bytes(tree_bytes([5] * 100_000, list(range(-1, 99_999)), [])) is None
