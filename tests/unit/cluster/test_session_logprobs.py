"""Log-probabilities on their way to the caller: one for each token, whatever is lost meanwhile."""

from __future__ import annotations

import pytest

from cluster.errors import Unavailable
from cluster.events import Chunk, Event
from cluster.messages import FinishReason
from cluster.text import Tokenizer
from tests.unit.cluster.fakes import FakeClock, FakeDrafter, FakeFleet, FakeTarget, make_request
from tests.unit.cluster.sessions import TEXT, collect, finished_of, ids_of, new_session


def places_of(events: list[Event]) -> list[int]:
    """Where each token stands, as the fake target tells it by its log-probabilities."""
    chunks = [event for event in events if isinstance(event, Chunk)]
    assert all(len(chunk.logprobs) == len(chunk.token_ids) for chunk in chunks)
    return [one.top_ids[0] for chunk in chunks for one in chunk.logprobs]


@pytest.mark.parametrize("drafter", ["de", None])
async def test_a_lost_target_leaves_no_gap_and_repeats_nothing(
    tokenizer: Tokenizer, clock: FakeClock, drafter: str | None
) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    first, second = FakeTarget("t1", ids), FakeTarget("t2", ids)
    first.load_pages, first.dies_at_length = 200, 9
    request = make_request(tokenizer, drafter=drafter, logprobs=1)

    events = await collect(new_session(request, FakeFleet(clock, [first, second], [FakeDrafter("d1", ids)]), tokenizer))

    begin = len(request.prompt_ids)
    assert ids_of(events) == ids
    assert places_of(events) == [*range(begin, begin + len(ids))]
    assert finished_of(events).figures.failovers == 1


async def test_a_target_that_does_not_tell_what_was_asked_is_left(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    silent, other = FakeTarget("t1", ids), FakeTarget("t2", ids)
    silent.load_pages, silent.tells_logprobs = 200, False

    events = await collect(
        new_session(make_request(tokenizer, logprobs=0), FakeFleet(clock, [silent, other]), tokenizer)
    )
    assert len(places_of(events)) == len(ids)

    other.tells_logprobs = False
    with pytest.raises(Unavailable):
        await collect(new_session(make_request(tokenizer, logprobs=0), FakeFleet(clock, [silent, other]), tokenizer))


async def test_tokens_behind_the_end_of_the_answer_are_left_out(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt("abcdefgh")
    request = make_request(tokenizer, stop=("cd",), logprobs=0)

    events = await collect(
        new_session(request, FakeFleet(clock, [FakeTarget("t1", ids)], [FakeDrafter("d1", ids)]), tokenizer)
    )

    assert finished_of(events).finish_reason is FinishReason.STOP
    assert len(places_of(events)) == len(ids_of(events)) == 4
