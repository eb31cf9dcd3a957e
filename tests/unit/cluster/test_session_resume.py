"""A resumed answer goes on where the caller stands: its tokens and its text."""

from __future__ import annotations

import pytest

from cluster.events import Chunk
from cluster.messages import FinishReason
from cluster.request import Resume
from cluster.text import Tokenizer
from tests.unit.cluster.fakes import FakeClock, FakeDrafter, FakeFleet, FakeTarget, make_request
from tests.unit.cluster.sessions import TEXT, collect, finished_of, new_session, text_of


@pytest.mark.parametrize("num_known", [0, 1, 5, 30, 54])
async def test_resumed_answer_is_the_rest_of_the_whole_one(
    tokenizer: Tokenizer, clock: FakeClock, num_known: int
) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    whole = await collect(
        new_session(make_request(tokenizer, drafter=None), FakeFleet(clock, [FakeTarget("t1", ids)]), tokenizer)
    )
    known_text = "".join(event.text for event in whole[1 : num_known + 1] if isinstance(event, Chunk))
    request = make_request(tokenizer, resume=Resume(tuple(ids[:num_known]), "n1", 12))
    target = FakeTarget("t1", ids)

    events = await collect(new_session(request, FakeFleet(clock, [target], [FakeDrafter("d1", ids)]), tokenizer))

    chunks = [event for event in events if isinstance(event, Chunk)]
    assert [token for chunk in chunks for token in chunk.token_ids] == ids[num_known:]
    assert all(chunk.first_token_index >= num_known for chunk in chunks)
    assert known_text + text_of(events) == TEXT
    assert finished_of(events).completion_tokens == len(ids) - num_known
    assert target.channels[0].opened.round == 12


@pytest.mark.parametrize("told", ["The train leaves at nine; na\u00efve \U0001f682 passengers ", TEXT[:-1], TEXT])
async def test_text_withheld_to_the_end_is_told_once_when_the_stream_breaks_after_it(
    tokenizer: Tokenizer, clock: FakeClock, told: str
) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    resume = Resume(tuple(ids), "n1", 12, text_bytes=len(told.encode()))
    request = make_request(tokenizer, stop=("wait.!",), resume=resume)

    events = await collect(new_session(request, FakeFleet(clock, [FakeTarget("t1", ids)]), tokenizer))

    assert told + text_of(events) == TEXT
    assert finished_of(events).finish_reason is FinishReason.EOS


async def test_resumed_answer_that_is_complete_needs_no_session(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt("abcdef")
    target = FakeTarget("t1", ids)
    request = make_request(tokenizer, max_tokens=3, resume=Resume(tuple(ids[:3]), "n1", 4))

    events = await collect(new_session(request, FakeFleet(clock, [target]), tokenizer))

    assert len(events) == 2 and finished_of(events).finish_reason is FinishReason.LENGTH
    assert not target.channels
