"""Sessions over in-memory replicas, and what their events say."""

from __future__ import annotations

import asyncio

from cluster.events import Chunk, Event, Finished
from cluster.request import Request
from cluster.session import Session, SessionSettings
from cluster.text import Tokenizer
from tests.unit.cluster.fakes import FakeFleet

TEXT = "The train leaves at nine; na\u00efve \U0001f682 passengers wait."


class FullSpeed:
    """The pace of a tenant without limits."""

    def wrote(self, num_tokens: int) -> None: ...

    async def may_go_on(self) -> None: ...


def new_session(request: Request, fleet: FakeFleet, tokenizer: Tokenizer, credit: int = 64) -> Session:
    return Session(5, request, fleet, tokenizer, SessionSettings(credit, 20.0, 16), FullSpeed(), fleet.clock)


async def collect(session: Session) -> list[Event]:
    async with asyncio.timeout(5):
        return [event async for event in session.events()]


def text_of(events: list[Event]) -> str:
    """All text; asserts that each token of a chunk has its piece of it."""
    chunks = [event for event in events if isinstance(event, Chunk)]
    for chunk in chunks:
        assert len(chunk.pieces) == len(chunk.token_ids)
        assert "".join(chunk.pieces) == chunk.text or not chunk.pieces
    return "".join(chunk.text for chunk in chunks)


def ids_of(events: list[Event]) -> list[int]:
    """All tokens; asserts that chunks have neither gap nor overlap."""
    ids: list[int] = []
    for event in events:
        if isinstance(event, Chunk):
            assert event.first_token_index == len(ids) and len(event.sources) == len(event.token_ids)
            ids += event.token_ids
    return ids


def finished_of(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]
