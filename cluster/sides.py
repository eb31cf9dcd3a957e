"""A session's two sides: its opening at a target replica, and its opening at a drafter replica."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial

from cluster.answer import Answer
from cluster.errors import PolydraftError
from cluster.messages import Block, Body, Credit, LocalDraft, Message, Observe, Open, Verdict
from cluster.peers import Channel, Fleet, Peer, PeerGone, PeerLost
from cluster.request import DrafterChoice, Request

MAX_DRAFTERS_LOST = 4
"""Of one answer: a drafter that keeps dying is not asked again."""
PLAIN = LocalDraft("", 0)


@dataclass(frozen=True, slots=True)
class Arrival:
    """Something that came for a session, and from which opening."""

    side: Side
    epoch: int
    item: Message | PeerLost


Inbox = asyncio.Queue[Arrival]


class Side:
    """The present opening of a session at one tier. Each opening has an epoch; what comes from older ones is stale."""

    def __init__(self, number: int, inbox: Inbox) -> None:
        self._number = number
        self._inbox = inbox
        self._channel: Channel | None = None
        self._failed: set[str] = set()
        self.epoch = 0
        self.replica_id = ""

    @property
    def is_open(self) -> bool:
        return self._channel is not None

    def is_current(self, arrival: Arrival) -> bool:
        """Whether an arrival belongs to the present opening."""
        epoch = arrival.item.epoch if isinstance(arrival.item, Message) else arrival.epoch
        return self.is_open and arrival.epoch == self.epoch and epoch == self.epoch

    def usable(self, peer: Peer) -> bool:
        """Whether this session has not failed at the replica before."""
        return peer.replica_id not in self._failed

    def send(self, body: Body) -> None:
        if self._channel is not None:
            self._channel.send(body)

    def close(self, error: PolydraftError | None = None) -> None:
        if self._channel is not None:
            self._channel.close(error)
            self._channel = None

    def abandon(self, item: Message | PeerLost) -> None:
        """Leave the replica: for good when it said so itself, until its stream is back when that broke."""
        self.close()
        if isinstance(item, Message):
            self._failed.add(self.replica_id)

    def _open(self, peer: Peer, body: Open) -> bool:
        self.close()
        self.epoch += 1
        self.replica_id = peer.replica_id
        try:
            self._channel = peer.open(self._number, self.epoch, body, partial(self._deliver, self.epoch))
        except PeerGone:
            self._failed.add(peer.replica_id)
            return False
        return True

    def _deliver(self, epoch: int, item: Message | PeerLost) -> None:
        self._inbox.put_nowait(Arrival(self, epoch, item))


class TargetSide(Side):
    """Where the text comes from. It may be ahead of the client by `credit_tokens` tokens."""

    def __init__(self, number: int, inbox: Inbox, credit_tokens: int) -> None:
        super().__init__(number, inbox)
        self._credit_tokens = credit_tokens
        self._unsent_credit = 0
        self.expects_prefill = False

    def open(self, peer: Peer, request: Request, answer: Answer, local: LocalDraft | None) -> bool:
        """Begin, or begin again, with all that is committed. False when the replica is gone."""
        self._unsent_credit = 0
        self.expects_prefill = True
        return self._open(
            peer,
            Open(
                token_ids=answer.sequence,
                prompt_length=len(request.prompt_ids),
                sampling=request.sampling,
                seed=request.seed,
                round=answer.next_round,
                max_tokens=request.max_tokens,
                tenant=request.tenant,
                max_draft_tokens=request.drafting.max_draft_tokens,
                drafter=request.drafting.name or "",
                local=local,
                credit_tokens=self._credit_tokens,
                correction_top_k=request.correction_top_k,
                weight=request.weight,
                logprobs=request.logprobs,
                request_id=request.request_id,
                traceparent=request.traceparent,
                language=request.language,
                shadows=request.shadows,
                keeps_text=request.keeps_text,
            ),
        )

    def taken(self, num_tokens: int) -> None:
        """The client has so many more tokens; credit goes out in portions."""
        self._unsent_credit += num_tokens
        if self._unsent_credit * 4 >= self._credit_tokens:
            self.send(Credit(self._unsent_credit))
            self._unsent_credit = 0


class DraftSide(Side):
    """Where blocks come from. Nothing but speed depends on it."""

    def __init__(self, number: int, inbox: Inbox, drafting: DrafterChoice) -> None:
        super().__init__(number, inbox)
        self._name: str | None = None
        self._lost: Counter[str] = Counter()
        """Openings that came to nothing, by drafter."""
        self._untold: tuple[int, ...] = ()
        """Committed tokens that the drafter has not heard of."""
        self.is_deferred = False
        """Whether it is opened only when the target asks for a block."""
        self.use(drafting)

    def use(self, drafting: DrafterChoice) -> None:
        """Blocks come from this drafter from now on, if it is one of a tier; it is not opened yet."""
        self.close()
        self._name = None if drafting.is_local else drafting.name
        self._untold, self.is_deferred = (), False

    def could_open(self, fleet: Fleet, name: str) -> bool:
        """Whether there is a replica of the drafter to try."""
        return self._lost[name] < MAX_DRAFTERS_LOST and any(map(self.usable, fleet.drafters(name)))

    def open(self, fleet: Fleet, request: Request, answer: Answer) -> bool:
        """Try to open at a replica. False when there is none to try."""
        if self._name is None:
            return False
        self._untold, self.is_deferred = (), False
        for peer in filter(self.usable, fleet.drafters(self._name)):
            if self._lost[self._name] >= MAX_DRAFTERS_LOST:
                break
            body = Open(
                token_ids=answer.sequence,
                prompt_length=len(request.prompt_ids),
                sampling=request.sampling,
                seed=request.seed,
                round=answer.next_round,
                max_tokens=request.max_tokens,
                tenant=request.tenant,
                max_draft_tokens=request.drafting.max_draft_tokens,
                request_id=request.request_id,
                traceparent=request.traceparent,
                language=request.language,
            )
            if self._open(peer, body):
                return True
            self._lost[self._name] += 1
        return False

    def abandon(self, item: Message | PeerLost) -> None:
        super().abandon(item)
        if self._name is not None:
            self._lost[self._name] += 1

    def defer(self, fleet: Fleet) -> None:
        """Do not prefill for a target that decodes plainly at present. Nothing if there is no replica to open at."""
        self.is_deferred = self._name is not None and self.could_open(fleet, self._name)

    def observe(self, verdict: Verdict) -> None:
        """Ask for a block if the target wants one, with all that was committed since the last time."""
        self._untold += verdict.token_ids
        if verdict.draft_nodes > 0 or verdict.correction:
            self.ask(verdict)

    def conclude(self, verdict: Verdict) -> None:
        """Tell a drafter that learns how the answer ended."""
        self._untold += verdict.token_ids
        self.ask(replace(verdict, draft_nodes=0))

    def ask(self, verdict: Verdict) -> None:
        """Ask for the block behind a verdict."""
        token_ids, self._untold = self._untold, ()
        self.send(
            Observe(
                base_length=verdict.length - len(token_ids),
                token_ids=token_ids,
                num_accepted=verdict.num_accepted,
                max_nodes=verdict.draft_nodes,
                draft_ahead=verdict.draft_ahead,
                correction=verdict.correction,
                late_draft=verdict.late_draft,
            )
        )


def stop_waiting(answer: Answer, base_hash: int) -> Block:
    """To a target: no blocks will come, decode plainly from now on, whatever base you stand at."""
    return draft_locally(answer, base_hash, PLAIN)


def draft_locally(answer: Answer, base_hash: int, local: LocalDraft) -> Block:
    """To a target: draft by yourself from now on, whatever base you stand at."""
    return Block(answer.length, base_hash, local=local)


def wait_again(answer: Answer, base_hash: int, drafter: str) -> Block:
    """To a target that drafts by itself or not at all: blocks of this drafter will come. The block itself is empty."""
    return Block(answer.length, base_hash, drafter=drafter)
