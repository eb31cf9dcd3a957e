"""What is said on an internal stream: mostly what a router would say at that moment, with hostile parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from google.protobuf.message import DecodeError

from benchmarks.fuzz.messages import spoil, wild
from benchmarks.fuzz.mutations import mutated
from engine.hashing import EMPTY_HASH, extend_hash
from protos.v1 import internal_pb2 as pb
from protos.v1 import types_pb2

_LENGTHS = (1, 2, 15, 16, 17, 33, 90)
"""Of sequences: about the edges of KV pages."""


@dataclass(frozen=True, slots=True)
class Canon:
    """A lawful session whose tokens are known: whatever else is on the stream, they must be these."""

    open: pb.Open
    answer: tuple[int, ...]
    """Of a target; drafters give none."""
    vocab_size: int
    max_context: int


@dataclass(slots=True)
class Session:
    """A session as the router's end knows it."""

    number: int
    epoch: int
    length: int
    hash: int
    is_canonical: bool


@dataclass(slots=True)
class Conversation:
    """A router's end of one stream."""

    canon: Canon
    sessions: dict[int, Session] = field(default_factory=dict)
    others: set[tuple[int, int]] = field(default_factory=set)
    """Numbers and epochs that were, some time, opened as something else than the canonical session."""

    def say(self, rng: Random) -> bytes:
        """The next frame."""
        frame = pb.Frame()
        for _ in range(rng.choice((1, 1, 1, 2, 6))):
            message = self._message(rng)
            frame.messages.append(message)
            self._note(message)  # what comes next in the frame is about what is there by then
        data = frame.SerializeToString()
        if rng.random() >= 0.03:
            return data
        broken = mutated(rng, data, data)
        try:
            for message in pb.Frame.FromString(broken).messages:
                self._note(message)
        except DecodeError:
            pass
        return broken

    def hear(self, message: pb.Message) -> None:
        """Where a session stands after what the replica said."""
        session = self.sessions.get(message.session)
        if session is None or session.epoch != message.epoch:
            return
        match message.WhichOneof("body"):
            case "verdict":
                session.length, session.hash = message.verdict.length, message.verdict.hash
            case "close":
                del self.sessions[message.session]

    def is_canonical(self, message: pb.Message) -> bool:
        return (message.session, message.epoch) not in self.others

    def _message(self, rng: Random) -> pb.Message:
        if rng.random() < 0.04:
            return wild(rng, pb.Message)
        session = rng.choice([*self.sessions.values()]) if self.sessions else None
        make = rng.choice(TO_TARGETS if self.canon.answer else TO_DRAFTERS)
        message = opening(rng, self, session) if session is None else make(rng, self, session)
        if rng.random() < 0.25:
            spoil(rng, message, rng.choice((1, 1, 2)))
        return message

    def _note(self, message: pb.Message) -> None:
        """Follow the rules by which a replica takes messages."""
        known = self.sessions.get(message.session)
        match message.WhichOneof("body"):
            case "open":
                is_canonical = message.open == self.canon.open
                if not is_canonical:
                    self.others.add((message.session, message.epoch))
                if known is None or message.epoch > known.epoch:
                    ids = message.open.token_ids
                    self.sessions[message.session] = Session(
                        message.session, message.epoch, len(ids), extend_hash(EMPTY_HASH, ids), is_canonical
                    )
            case "observe" if known is not None and known.epoch == message.epoch:
                known.length += len(message.observe.token_ids)
            case "close" if known is not None and message.epoch >= known.epoch:
                del self.sessions[message.session]


Action = Callable[[Random, Conversation, Session], pb.Message]


def greeting(rng: Random, router_id: str) -> bytes:
    """Mostly lawful."""
    frame = pb.Frame(messages=[pb.Message(hello=pb.Hello(protocol=1, peer_id=router_id))])
    if rng.random() < 0.1:
        spoil(rng, frame, 1)
    data = frame.SerializeToString()
    return data if rng.random() < 0.97 else mutated(rng, data, data)


def opening(rng: Random, talk: Conversation, session: Session | None = None) -> pb.Message:
    """A new session, or an old one again."""
    if session is None or rng.random() < 0.7:
        number, epoch = rng.randrange(1, 4), rng.randrange(1, 3)
    else:
        number, epoch = session.number, min(session.epoch + 1, (1 << 32) - 1)
    body = talk.canon.open if rng.random() < 0.4 else _any_open(rng, talk.canon)
    return pb.Message(session=number, epoch=epoch, open=body)


def _any_open(rng: Random, canon: Canon) -> pb.Open:
    length = rng.choice((*_LENGTHS * 2, canon.max_context - 2, canon.max_context - 2, 3 * canon.max_context))
    body = pb.Open(
        token_ids=[rng.randrange(canon.vocab_size)] * (length // 2),  # equal beginnings find each other's pages
        prompt_length=max(length - rng.choice((0, 0, 1, 2)), 1),
        sampling=types_pb2.Sampling(temperature=rng.choice((0.0, 0.7)), top_k=rng.choice((0, 5)), top_p=1.0),
        seed=rng.getrandbits(64),
        round=rng.choice((0, 3)),
        max_tokens=rng.randrange(1, 9),
        tenant=rng.choice(("a", "b", "")),
        max_draft_tokens=rng.choice((0, 1, 4, 8)),
        credit_tokens=rng.choice((0, 1, 8, 1_000, 1_000)),
        drafter="de",
        correction_top_k=rng.choice((0, 0, 4)),
    )
    body.token_ids.extend(rng.randrange(canon.vocab_size) for _ in range(length - length // 2))
    if rng.random() < 0.5:
        body.local.CopyFrom(_local(rng))
    return body


def _local(rng: Random) -> pb.LocalDraft:
    return pb.LocalDraft(method=rng.choice(("", "", "ngram", "nobody")), max_nodes=rng.choice((0, 4)))


def _block(rng: Random, talk: Conversation, session: Session) -> pb.Message:
    """A tree on the sequence as it stands; for the canonical session often with what comes true in it."""
    canon = talk.canon
    begin = session.length - len(canon.open.token_ids)
    answer = canon.answer[max(begin, 0) :] if session.is_canonical and rng.random() < 0.7 else ()
    token_ids = [*answer[: rng.randrange(6)]]
    parents = list(range(-1, len(token_ids) - 1))
    for _ in range(rng.randrange(5)):
        parents.append(rng.randrange(-1, len(parents)))
        token_ids.append(rng.randrange(canon.vocab_size))
    tree = pb.TokenTree(token_ids=token_ids, parents=parents)
    if rng.random() < 0.15:
        spoil(rng, tree, 1)
    data = tree.SerializeToString()
    if rng.random() < 0.05:
        data = mutated(rng, data, data)
    return _about(session, block=pb.Block(base_length=session.length, base_hash=session.hash, tree=data))


def _draft_locally(rng: Random, talk: Conversation, session: Session) -> pb.Message:
    return _about(session, block=pb.Block(base_length=session.length, base_hash=session.hash, local=_local(rng)))


def _credit(rng: Random, talk: Conversation, session: Session) -> pb.Message:
    return _about(session, credit=pb.Credit(tokens=rng.choice((0, 1, 8, 1_000))))


def _resync(rng: Random, talk: Conversation, session: Session) -> pb.Message:
    return _about(session, resync=pb.Resync(have_length=max(session.length - rng.randrange(4), 0)))


def _observe(rng: Random, talk: Conversation, session: Session) -> pb.Message:
    token_ids = [rng.randrange(talk.canon.vocab_size) for _ in range(rng.choice((0, 1, 1, 3, 8)))]
    observe = pb.Observe(
        base_length=session.length,
        token_ids=token_ids,
        num_accepted=max(len(token_ids) - 1, 0),
        max_nodes=rng.choice((0, 1, 4, 8)),
        draft_ahead=rng.random() < 0.3,
    )
    return _about(session, observe=observe)


def _close(rng: Random, talk: Conversation, session: Session) -> pb.Message:
    return _about(session, close=pb.Close())


def _beat(rng: Random, talk: Conversation, session: Session) -> pb.Message:
    return pb.Message(heartbeat=pb.Heartbeat(num_sessions=1))


def _about(session: Session, **body: object) -> pb.Message:
    return pb.Message(session=session.number, epoch=session.epoch, **body)  # type: ignore[arg-type]  # one body by name


TO_TARGETS: tuple[Action, ...] = (
    *[opening] * 2,
    *[_block] * 12,
    *[_credit] * 4,
    *[_close] * 2,
    _draft_locally,
    _resync,
    _observe,
    _beat,
)
TO_DRAFTERS: tuple[Action, ...] = (*[opening] * 3, *[_observe] * 12, *[_close] * 2, _block, _credit, _beat)
