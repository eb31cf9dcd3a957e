"""In-memory peers for the session loop: a target that writes a known text, and drafters that propose it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from cluster.errors import Overloaded, PolydraftError
from cluster.ledger import Claim, Settled
from cluster.messages import (
    Block,
    Body,
    Close,
    Credit,
    FinishReason,
    LocalDraft,
    Message,
    Observe,
    Open,
    Sampling,
    TokenLogprobs,
    Verdict,
)
from cluster.peers import Deliver, PeerGone, PeerLost
from cluster.request import DrafterChoice, Request, Resume
from cluster.routing import TargetLoad
from cluster.text import Tokenizer

SPECIALS = ("<s>", "</s>", "<pad>")


def write_byte_tokenizer(directory: Path, chat_template: str | None = None, specials: Sequence[str] = SPECIALS) -> None:
    """A complete tokenizer without merges: one token a byte, and the special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE({token: id for id, token in enumerate([*specials, *alphabet])}, []))
    backend.add_special_tokens(list(specials))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": "</s>"}')
    if chat_template is not None:
        (directory / "chat_template.jinja").write_text(chat_template)


def byte_tokenizer(directory: Path, chat_template: str | None = None, specials: Sequence[str] = SPECIALS) -> Tokenizer:
    write_byte_tokenizer(directory, chat_template, specials)
    return Tokenizer(directory)


def make_request(
    tokenizer: Tokenizer,
    *,
    prompt: str = "prompt",
    max_tokens: int = 100,
    stop: tuple[str, ...] = (),
    drafter: str | None = "de",
    drafts_locally: bool = False,
    time_budget_s: float = 0.0,
    resume: Resume | None = None,
    correction_top_k: int = 0,
    logprobs: int | None = None,
) -> Request:
    return Request(
        request_id="r1",
        tenant="default",
        weight=1.0,
        language="de",
        prompt_ids=tuple(tokenizer.encode_prompt(prompt)),
        sampling=Sampling(),
        seed=7,
        max_tokens=max_tokens,
        stop=stop,
        time_budget_s=time_budget_s,
        drafting=DrafterChoice(drafter, drafts_locally, 3) if drafter is not None else DrafterChoice(),
        resume=resume,
        correction_top_k=correction_top_k,
        logprobs=logprobs,
    )


async def no_ledger(claims: Sequence[Claim]) -> Settled | None:
    """The ledger that routers share is down."""
    return None


class Turn(NamedTuple):
    """A chat message as it arrives."""

    role: str
    content: bytes


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class FakeChannel:
    """One opening at a fake replica."""

    peer: FakePeer
    session: int
    epoch: int
    opened: Open
    deliver: Deliver
    sent: list[Body] = field(default_factory=list)
    closed: bool = False

    def send(self, body: Body) -> None:
        if self.peer.alive and not self.closed:
            self.sent.append(body)
            self.peer.on_message(self, body)

    def close(self, error: PolydraftError | None = None) -> None:
        if not self.closed:
            self.sent.append(Close(error))
        self.closed = True

    def answer(self, body: Body, epoch: int | None = None) -> None:
        """What the replica says; nothing reaches a closed channel."""
        if not self.closed:
            self.deliver(Message(self.session, self.epoch if epoch is None else epoch, body))


class FakePeer:
    """A replica in memory. Subclasses answer in `on_open` and `on_message`."""

    def __init__(self, replica_id: str) -> None:
        self.replica_id = replica_id
        self.target_id = "target-id"
        self.alive = True
        self.channels: list[FakeChannel] = []

    def open(self, session: int, epoch: int, body: Open, deliver: Deliver) -> FakeChannel:
        if not self.alive:
            raise PeerGone(self.replica_id)
        channel = FakeChannel(self, session, epoch, body, deliver)
        self.channels.append(channel)
        self.on_open(channel)
        return channel

    def die(self) -> None:
        self.alive = False
        for channel in self.channels:
            if not channel.closed:
                channel.deliver(PeerLost(self.replica_id))

    def on_open(self, channel: FakeChannel) -> None: ...

    def on_message(self, channel: FakeChannel, body: Body) -> None: ...


class FakeTarget(FakePeer):
    """Writes `answer_ids`, then EOS. A block's tree is its draft tokens as JSON; it stops without credit."""

    def __init__(self, replica_id: str, answer_ids: Sequence[int], numerics_id: str = "n1") -> None:
        super().__init__(replica_id)
        self.answer_ids = tuple(answer_ids)
        self.numerics_id = numerics_id
        self.load_pages = 100
        self.is_plain = False
        self.credit = 0
        self.waits = True
        self.full = False
        self.tells_logprobs = True
        self.dies_at_length: int | None = None
        """Dies instead of telling a round that begins at this many answer tokens or later."""
        self.draft_nodes: Iterator[int] = itertools.repeat(3)
        """What its verdicts ask for; after 0 it decodes a token without waiting."""
        self.draws: dict[str, int] = {}
        """Drafters in its step, and how many tokens of a draft of theirs are right."""
        self.drafter = ""
        """Who drafts at present."""

    @property
    def load(self) -> TargetLoad:
        return TargetLoad(self.replica_id, self.numerics_id, self.load_pages, 0, 0, is_plain=self.is_plain)

    def on_open(self, channel: FakeChannel) -> None:
        if self.full:
            channel.answer(Close(Overloaded("all taken")))
            return
        self.credit = channel.opened.credit_tokens
        self._draft_by(channel.opened.local, channel.opened.drafter)
        self._round(channel, list(channel.opened.token_ids), draft=(), is_prefill=True)

    def on_message(self, channel: FakeChannel, body: Body) -> None:
        if isinstance(body, Block):
            self._draft_by(body.local, body.drafter)
            if self.waits and body.base_length == len(self._sequence):
                self._round(channel, self._sequence, draft=tuple(json.loads(body.tree or b"[]")))
        elif isinstance(body, Credit):
            self.credit += body.tokens
        self._run_undrafted(channel)

    def _draft_by(self, local: LocalDraft | None, drafter: str) -> None:
        self.waits = local is None
        self.drafter = (drafter or self.drafter) if local is None else local.method

    def late(self, channel: FakeChannel) -> None:
        """The deadline of the round passes without a block."""
        self._round(channel, self._sequence, draft=(), late=True)

    def _run_undrafted(self, channel: FakeChannel) -> None:
        while not self.waits and self.credit > 0 and not self._ended and self.alive:
            done = len(self._sequence) - channel.opened.prompt_length
            num_right = self.draws.get(self.drafter, 0)
            self._round(channel, self._sequence, draft=self.answer_ids[done : done + num_right])

    def _logprobs(self, channel: FakeChannel, length: int, token_ids: Sequence[int]) -> tuple[TokenLogprobs, ...]:
        """One for each place: what stands there tells which it is."""
        asked = channel.opened.logprobs is not None and self.tells_logprobs
        places = range(length, length + len(token_ids)) if asked else ()
        return tuple(TokenLogprobs(-float(place), (place,), (-float(place),)) for place in places)

    def _round(
        self,
        channel: FakeChannel,
        sequence: list[int],
        draft: tuple[int, ...],
        *,
        is_prefill: bool = False,
        late: bool = False,
    ) -> None:
        done = len(sequence) - channel.opened.prompt_length
        if self.dies_at_length is not None and done >= self.dies_at_length:
            self.die()
            return
        coming = self.answer_ids[done:]
        accepted = next((i for i, t in enumerate(draft) if i >= len(coming) or coming[i] != t), len(draft))
        tokens = coming[: accepted + 1]
        self._sequence = [*sequence, *tokens]
        self._ended = len(tokens) <= accepted
        self.credit -= len(tokens)
        draft_nodes = next(self.draft_nodes)
        channel.answer(
            Verdict(
                base_length=len(sequence),
                token_ids=tokens,
                num_accepted=min(accepted, len(tokens)),
                num_drafted=len(draft),
                length=len(self._sequence),
                hash=len(self._sequence),
                round=channel.opened.round + 1,
                draft_nodes=draft_nodes,
                finish_reason=FinishReason.EOS if self._ended else None,
                late_draft=late,
                drafter=self.drafter,
                seconds=1.0,
                plain_seconds=1.0,
                cached_prompt_tokens=2 if is_prefill else 0,
                logprobs=self._logprobs(channel, len(sequence), tokens),
                correction=b"law" if channel.opened.correction_top_k and accepted < len(draft) else b"",
            )
        )
        if is_prefill:
            self._run_undrafted(channel)
        if self.waits and draft_nodes == 0 and not self._ended:
            self._round(channel, self._sequence, draft=())


class FakeDrafter(FakePeer):
    """Proposes the next `length` tokens of the answer, unless told to be silent."""

    def __init__(self, replica_id: str, answer_ids: Sequence[int], length: int = 3) -> None:
        super().__init__(replica_id)
        self.answer_ids = tuple(answer_ids)
        self.length = length
        self.silent = False
        self.name = ""
        """Of the drafter; empty: of any."""
        self.version = f"{replica_id}@0"

    def on_message(self, channel: FakeChannel, body: Body) -> None:
        if isinstance(body, Observe) and not self.silent:
            base = body.base_length + len(body.token_ids)
            done = base - channel.opened.prompt_length
            tree = json.dumps(self.answer_ids[done : done + self.length]).encode()
            is_first = sum(isinstance(sent, Observe) for sent in channel.sent) == 1
            channel.answer(Block(base, base, tree, drafter_version=self.version if is_first else ""))


class FakeFleet:
    """Replicas that are alive. `on_wait` runs when the loop waits for a change; the clock then jumps."""

    def __init__(self, clock: FakeClock, targets: Sequence[FakeTarget], drafters: Sequence[FakeDrafter] = ()) -> None:
        self.clock = clock
        self.all_targets = list(targets)
        self.all_drafters = list(drafters)
        self.on_wait: Callable[[], None] = lambda: None
        self.draining: set[str] = set()

    def targets(self) -> list[FakeTarget]:
        return [peer for peer in self.all_targets if peer.alive and peer.replica_id not in self.draining]

    def drafters(self, name: str) -> list[FakeDrafter]:
        return [peer for peer in self.all_drafters if peer.alive and peer.name in ("", name)]

    async def changed(self, timeout_s: float) -> None:
        self.clock.now_s += timeout_s
        self.on_wait()
