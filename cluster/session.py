"""The session loop of one request: rounds between a drafter and a target replica, and what happens when one is lost.

Each verdict of the target becomes a chunk for the caller and, at once, an `Observe` for the drafter, whose next block
is forwarded unopened. The target never depends on blocks: it runs a round undrafted when one is late. A lost target is
replaced by another replica of the same numerics, opened with prompt and committed tokens under a higher epoch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from cluster.answer import Answer
from cluster.choosing import DrafterChooser
from cluster.errors import Overloaded, TargetChanged, Unavailable
from cluster.events import Chunk, Event, Started
from cluster.messages import Block, Close, FinishReason, GoAway, LocalDraft, Message, Verdict
from cluster.observing import Unwatched, Watch
from cluster.peers import Fleet, PeerLost, TargetPeer
from cluster.request import DrafterChoice, Request
from cluster.routing import OFF, choose_target
from cluster.sides import PLAIN, Arrival, DraftSide, Inbox, TargetSide, draft_locally, stop_waiting, wait_again
from cluster.text import Tokenizer

T = TypeVar("T")
MAX_LOSSES = 5
"""Of targets without a token between them: a request that kills its replicas must not go through all there are."""


class Pace(Protocol):
    """How fast an answer may be written."""

    def wrote(self, num_tokens: int) -> None:
        """So many tokens were sent."""

    async def may_go_on(self) -> None:
        """Returns when more may be written."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What the configuration says about sessions."""

    credit_tokens: int
    failover_wait_s: float
    page_size: int


class Session:
    """One answer on its way. `events` runs once; closing it closes both sides."""

    def __init__(
        self,
        number: int,
        request: Request,
        fleet: Fleet,
        tokenizer: Tokenizer,
        settings: SessionSettings,
        pace: Pace,
        now: Callable[[], float],
        watch: Watch | None = None,
        chooser: DrafterChooser | None = None,
    ) -> None:
        """`chooser`: decides who drafts; None: the request's drafter does, to the end."""
        self._request = request
        self._fleet = fleet
        self._settings = settings
        self._pace = pace
        self._now = now
        self._watch = watch or Unwatched()
        self._deadline = now() + request.time_budget_s if request.time_budget_s else None
        self._inbox: Inbox = asyncio.Queue()
        self._answer = Answer(request, tokenizer)
        self._target = TargetSide(number, self._inbox, settings.credit_tokens)
        self._draft = DraftSide(number, self._inbox, request.drafting)
        self._chooser = chooser
        self._take_on(request.drafting)
        self._numerics_id = request.resume.numerics_id if request.resume else ""
        self._hash = 0
        self._num_losses = 0
        """Since the last token."""
        self.num_stale = 0
        """Messages that were dropped: of an old epoch, or about tokens that are committed already."""

    async def events(self) -> AsyncGenerator[Event, None]:
        """Started, Chunks, Finished."""
        try:
            yield await self._begin()
            while self._answer.finish_reason is None:
                arrival = await self._next_arrival()
                chunk = await self._handle(arrival) if arrival else self._answer.cut(FinishReason.TIME_BUDGET)
                if chunk is not None:
                    await asyncio.sleep(0)  # what was sent to the drafter leaves before the chunk is written
                    yield chunk
                    await self._take(chunk)
            if self._chooser is not None:
                self._answer.chose(self._chooser.uses(), self._chooser.num_changes)
            yield self._answer.finished()
        finally:
            self._target.close()
            self._draft.close()

    async def _begin(self) -> Started:
        """Open both sides, so that they prefill side by side."""
        if self._chooser is not None:
            self._change_to(self._chooser.begin(self._available()))
        if self._answer.finish_reason is None:
            likely = self._best_target()
            if likely is not None and likely.load.is_plain:
                self._draft.defer(self._fleet)
            else:
                self._open_draft()
        peer = await self._open_target()
        if peer is None:
            raise Unavailable("no target replica was there within the time budget; try again later")
        self._numerics_id = peer.load.numerics_id
        return Started(
            request_id=self._request.request_id,
            effective_seed=self._request.seed,
            target_id=peer.target_id,
            numerics_id=self._numerics_id,
            language=self._request.language,
            drafter=self._request.drafting.name or OFF,
            prompt_tokens=len(self._request.prompt_ids),
        )

    async def _next_arrival(self) -> Arrival | None:
        """What comes next from either side; None when the time budget is spent."""
        return await self._before_deadline(self._inbox.get())

    async def _take(self, chunk: Chunk) -> None:
        """Let the target go on: no faster than the caller reads, nor than its tenant's budget allows."""
        self._pace.wrote(len(chunk.token_ids))
        if self._answer.finish_reason is None:
            await self._before_deadline(self._pace.may_go_on())
            self._target.taken(len(chunk.token_ids))

    async def _before_deadline(self, work: Coroutine[object, object, T]) -> T | None:
        """Its result, or None when the time budget is spent before."""
        if self._deadline is None:
            return await work
        remaining_s = self._deadline - self._now()
        if remaining_s <= 0:
            work.close()
            return None
        try:
            async with asyncio.timeout(remaining_s):
                return await work
        except TimeoutError:
            return None

    async def _handle(self, arrival: Arrival) -> Chunk | None:
        if not arrival.side.is_current(arrival):
            self.num_stale += 1
            return None
        if arrival.side is self._target:
            return await self._from_target(arrival.item)
        self._from_drafter(arrival.item)
        return None

    async def _from_target(self, item: Message | PeerLost) -> Chunk | None:
        match item.body if isinstance(item, Message) else item:
            case Verdict(error=None) as verdict:
                if not self._answer.can_take(verdict):
                    await self._replace_target(item)  # a verdict is missing or wrong: begin again from what is known
                else:
                    return self._commit(verdict)
            case Close(error=Overloaded() as error):
                self._target.abandon(item)
                if not self._candidates():
                    raise error
                await self._open_target()
            case Verdict(error=error) | Close(error=error) if error is not None and not isinstance(error, Unavailable):
                raise error
            case Verdict() | Close() | PeerLost():
                await self._replace_target(item)
            case GoAway() if self._candidates():
                await self._replace_target(item)
        return None

    def _commit(self, verdict: Verdict) -> Chunk | None:
        """Take a verdict; ask for the next block before the caller sees the chunk."""
        if verdict.base_length < self._answer.length:
            self.num_stale += 1
            return None
        is_prefill = self._target.expects_prefill
        self._watch.committed(verdict, is_prefill=is_prefill)
        chunk = self._answer.take(verdict, is_prefill=is_prefill)
        self._target.expects_prefill = False
        self._hash = verdict.hash
        self._num_losses = 0
        if self._chooser is not None and not is_prefill:
            self._chooser.observe(verdict)
            self._chooser.wrote(chunk.text if chunk is not None else "")
        if self._answer.finish_reason is None:
            self._choose_drafter()
            self._ask_for_block(verdict)
        elif self._request.correction_top_k and self._draft.is_open:
            self._draft.conclude(verdict)
        return chunk

    def _choose_drafter(self) -> None:
        """Go on with another drafter if that pays."""
        if self._chooser is None:
            return
        num_remaining = self._request.max_tokens - len(self._answer.token_ids)
        choice = self._chooser.choose(num_remaining, self._available())
        if choice != self._request.drafting:
            self._change_to(choice)
            if choice.is_local or choice.name is None:  # one of a tier is opened where a block is asked for
                local = PLAIN if choice.name is None else LocalDraft(choice.name, choice.max_draft_tokens)
                self._target.send(draft_locally(self._answer, self._hash, local))

    def _available(self) -> set[str]:
        """Drafters of the choice that could draft now."""
        assert self._chooser is not None
        return {
            choice.name
            for choice in self._chooser.choices
            if choice.name is not None and (choice.is_local or self._draft.could_open(self._fleet, choice.name))
        }

    def _change_to(self, drafting: DrafterChoice) -> None:
        if drafting != self._request.drafting:
            self._request = replace(self._request, drafting=drafting)
            self._draft.use(drafting)
            self._watch.drafts_with(drafting.name)
            self._take_on(drafting)

    def _take_on(self, drafting: DrafterChoice) -> None:
        if drafting.name is not None and drafting.is_local:
            self._answer.drafted_by(f"{drafting.name}@0")  # only drafters of a tier learn

    def _ask_for_block(self, verdict: Verdict) -> None:
        if self._draft.is_open:
            self._draft.observe(verdict)
        elif self._draft.is_deferred:
            if verdict.draft_nodes > 0:
                self._open_deferred(verdict)
        elif self._open_draft():
            self._target.send(wait_again(self._answer, self._hash, self._request.drafting.name or ""))

    def _open_deferred(self, verdict: Verdict) -> None:
        """The target asks for blocks after all."""
        if self._open_draft():
            self._draft.ask(verdict)
        else:
            self._target.send(stop_waiting(self._answer, self._hash))

    def _open_draft(self) -> bool:
        """At any replica of the drafter. False when there is none to try."""
        if not self._draft.open(self._fleet, self._request, self._answer):
            return False
        self._watch.opened("drafter", self._draft.replica_id)
        return True

    def _from_drafter(self, item: Message | PeerLost) -> None:
        match item.body if isinstance(item, Message) else item:
            case Block() as block:
                if block.drafter_version:
                    self._answer.drafted_by(block.drafter_version)
                if block.base_length >= self._answer.length:
                    self._target.send(block)
                else:
                    self.num_stale += 1
            case PeerLost() | Close() | GoAway():
                # The next verdict opens at another replica if there is one.
                self._watch.lost("drafter", self._draft.replica_id)
                self._draft.abandon(item)
                self._target.send(stop_waiting(self._answer, self._hash))

    async def _replace_target(self, reason: Message | PeerLost) -> None:
        """Go on at another replica; the text is the same by invariance."""
        self._watch.lost("target", self._target.replica_id)
        self._target.abandon(reason)
        self._answer.count_failover()
        self._num_losses += 1
        if self._num_losses > MAX_LOSSES:
            raise Unavailable(f"{MAX_LOSSES} target replicas were lost under this request; it is given up")
        await self._open_target()

    async def _open_target(self) -> TargetPeer | None:
        """Open at the replica with the most room, waiting for one if need be. None when the time budget is spent."""
        give_up_at = self._now() + self._settings.failover_wait_s
        if self._deadline is not None:
            give_up_at = min(give_up_at, self._deadline)
        finished = self._answer.finish_reason is not None  # a resumed answer may need no session any more
        while True:
            peer = self._best_target()
            if peer is None:
                remaining_s = give_up_at - self._now()
                if remaining_s > 0:
                    await self._fleet.changed(remaining_s)
                elif give_up_at == self._deadline:
                    return None
                else:
                    raise self._no_target()
            elif finished or self._target.open(peer, self._request, self._answer, self._local_draft()):
                if not finished:
                    self._watch.opened("target", peer.replica_id)
                return peer

    def _candidates(self) -> list[TargetPeer]:
        """Replicas that may take this session."""
        return [
            peer
            for peer in self._fleet.targets()
            if self._target.usable(peer) and self._numerics_id in ("", peer.load.numerics_id)
        ]

    def _best_target(self) -> TargetPeer | None:
        peers = {peer.replica_id: peer for peer in self._candidates()}
        num_tokens = len(self._request.prompt_ids) + self._request.max_tokens
        best = choose_target([peer.load for peer in peers.values()], -(-num_tokens // self._settings.page_size))
        return peers[best.replica_id] if best is not None else None

    def _no_target(self) -> TargetChanged | Unavailable:
        if any(self._target.usable(peer) for peer in self._fleet.targets()):
            return TargetChanged("the answer cannot go on: no target replica of the same numerics is left; begin again")
        return Unavailable("no target replica can serve this now; try again later")

    def _local_draft(self) -> LocalDraft | None:
        """How the target drafts by itself; None: it waits for the drafter's blocks."""
        drafting = self._request.drafting
        if drafting.name is not None and drafting.is_local:
            return LocalDraft(drafting.name, drafting.max_draft_tokens)
        return None if self._draft.is_open or self._draft.is_deferred else PLAIN
