"""Messages between tiers that come twice, late, corrupt or from another session change no answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import pytest
import pytest_asyncio

from benchmarks.chaos.traffic import Reply, questions, references
from benchmarks.fuzz.one_process import TOKEN, LocalDirectory, running_replica, running_router
from cluster import catalogue as metrics
from cluster.config_file import load
from cluster.messages import Block, Body, Close, Credit, Message, Observe, Open, Resync, Verdict
from cluster.session import Session
from deployments.directory import Registration
from deployments.draft_service import DraftService
from deployments.target_service import TargetService
from tests.conftest import ROOT
from tests.frame_proxy import Alter, FrameProxy, proxy_before, unaltered

ASKED = questions(6, seed=3, languages=["de"])
# One after the other, and with patience: no block of a drafter is late, so only what was tampered with is stale.
OVERRIDES = ("target.draft_lengths=fixed", "target.draft_deadline_s=20")


class NotedSession(Session):
    """Can be asked afterwards what it dropped."""

    all: ClassVar[list[Session]] = []

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.all.append(self)


class ProxiedDirectory(LocalDirectory):
    """Routers find replicas behind proxies."""

    def __init__(self, stack: AsyncExitStack) -> None:
        super().__init__()
        self._stack = stack
        self._addresses: dict[str, str] = {}
        self.proxies: dict[str, FrameProxy] = {}
        """By the name of the replica."""

    async def register(self, registration: Registration) -> None:
        name = registration.name
        if registration.kind != "router":
            if name not in self.proxies:
                proxy = proxy_before(registration)
                self.proxies[name], self._addresses[name] = await self._stack.enter_async_context(proxy)
            registration = replace(registration, address=self._addresses[name])
        await super().register(registration)

    async def until_connected(self, num_replicas: int) -> None:
        """To whom the router is."""
        while max(len(registration.connected) for registration in await self.replicas() or ()) < num_replicas:
            await asyncio.sleep(0.05)


@dataclass(frozen=True, slots=True)
class Tiers:
    """A router at `address`, its replicas, and what stands on the way to them."""

    address: str
    target: TargetService
    proxies: Mapping[str, FrameProxy]

    async def answers(self) -> list[Reply]:
        return await references(self.address, ASKED, num_streams=1)

    def num_dropped(self) -> dict[str, int]:
        by_router = sum(session.num_stale for session in NotedSession.all)
        return {"router": by_router, "target": int(self.target.measures().total(metrics.STALE_DRAFTS).value)}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tiers() -> AsyncIterator[Tiers]:
    config = load(ROOT / "configs" / "local.yaml", OVERRIDES)
    async with AsyncExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr("cluster.service.Session", NotedSession)
        directory = ProxiedDirectory(stack)
        target = TargetService(config, "target-1", TOKEN)
        await stack.enter_async_context(running_replica(target, "target", directory))
        drafter = DraftService(config, "de", "de-1", TOKEN)
        await stack.enter_async_context(running_replica(drafter, "de", directory))
        address = await stack.enter_async_context(running_router(config, directory))
        async with asyncio.timeout(30):
            await directory.until_connected(2)
        yield Tiers(address, target, directory.proxies)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def expected(tiers: Tiers) -> list[Reply]:
    answers = await tiers.answers()
    assert tiers.num_dropped() == {"router": 0, "target": 0}
    return answers


def twice(kind: type[Body]) -> Alter:
    return lambda message: [message] * (1 + isinstance(message.body, kind))


def before_each(kind: type[Body], make: Callable[[Message], Message]) -> Alter:
    """Something else, and then what is right."""
    return lambda message: [make(message), message] if isinstance(message.body, kind) else [message]


def of_old_epoch(message: Message) -> Message:
    return replace(message, epoch=message.epoch - 1)


def old_close(message: Message) -> Message:
    """The end of a session's former opening."""
    return replace(message, epoch=message.epoch - 1, body=Close())


def elsewhere(num_tokens: int, message: Message) -> Message:
    """A block for another place of the sequence."""
    assert isinstance(message.body, Block)
    return replace(message, body=replace(message.body, base_length=message.body.base_length + num_tokens))


def of_another_text(message: Message) -> Message:
    assert isinstance(message.body, Block)
    return replace(message, body=replace(message.body, base_hash=message.body.base_hash ^ 1 << 40))


class WithBitFlipped:
    """A block whose tree has one wrong bit."""

    def __init__(self, seed: int) -> None:
        self._chosen = random.Random(seed)

    def __call__(self, message: Message) -> Message:
        assert isinstance(message.body, Block)
        tree = bytearray(message.body.tree)
        if tree:
            tree[self._chosen.randrange(len(tree))] ^= 1 << self._chosen.randrange(8)
        return replace(message, body=replace(message.body, tree=bytes(tree)))


class OfAnotherSession:
    """A block that another session got, for the place where this one stands."""

    def __init__(self) -> None:
        self._last: dict[int, Block] = {}

    def __call__(self, message: Message) -> Message:
        assert isinstance(message.body, Block)
        others = [block for session, block in self._last.items() if session != message.session]
        self._last[message.session] = message.body
        other = others[-1] if others else message.body
        return replace(message, body=replace(other, base_length=message.body.base_length))


@dataclass(frozen=True, slots=True)
class Tampering:
    """What is done to messages on the way to one replica and back."""

    replica: Literal["target", "de"]
    alter: Alter
    dropped_by: Literal["router", "target"] | None = None
    """Who counts what it has dropped, if anybody does."""


TAMPERINGS = {
    "verdicts come twice": Tampering("target", twice(Verdict), "router"),
    "verdicts of an old epoch": Tampering("target", before_each(Verdict, of_old_epoch), "router"),
    "the target closes an old epoch": Tampering("target", before_each(Verdict, old_close), "router"),
    "verdicts are sent again": Tampering(
        "target", before_each(Block, lambda message: replace(message, body=Resync(0))), "router"
    ),
    "openings come twice": Tampering("target", twice(Open)),
    "credit comes twice": Tampering("target", twice(Credit)),
    "blocks of an old epoch": Tampering("target", before_each(Block, of_old_epoch)),
    "the router closes an old epoch": Tampering("target", before_each(Block, old_close)),
    "blocks come twice": Tampering("de", twice(Block)),
    "the drafter's blocks of an old epoch": Tampering("de", before_each(Block, of_old_epoch), "router"),
    "blocks for what is past": Tampering("de", before_each(Block, partial(elsewhere, -1)), "router"),
    "blocks for what is to come": Tampering("de", before_each(Block, partial(elsewhere, 1)), "target"),
    "blocks for another text": Tampering("de", before_each(Block, of_another_text), "target"),
    "blocks of another session": Tampering("de", before_each(Block, OfAnotherSession()), "target"),
    "trees with a bit flipped": Tampering("de", before_each(Block, WithBitFlipped(5)), "target"),
    "the drafter is told twice": Tampering("de", twice(Observe)),
    "the drafter is told of an old epoch": Tampering("de", before_each(Observe, of_old_epoch)),
}


@pytest.mark.parametrize("name", TAMPERINGS)
@pytest.mark.asyncio(loop_scope="module")
async def test_no_answer_changes(tiers: Tiers, expected: list[Reply], name: str) -> None:
    tampering = TAMPERINGS[name]
    proxy = tiers.proxies[tampering.replica]
    before = tiers.num_dropped()

    proxy.alter = tampering.alter
    try:
        async with asyncio.timeout(60):
            found = await tiers.answers()
    finally:
        proxy.alter = unaltered

    assert found == expected
    if tampering.dropped_by is not None:
        assert tiers.num_dropped()[tampering.dropped_by] > before[tampering.dropped_by]
