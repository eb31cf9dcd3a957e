"""What a drafter that learns is told through the session loop, and how an answer names its version."""

from __future__ import annotations

import itertools

import pytest

from cluster.messages import Observe
from cluster.text import Tokenizer
from tests.unit.cluster.fakes import FakeClock, FakeDrafter, FakeFleet, FakeTarget, make_request
from tests.unit.cluster.sessions import TEXT, collect, finished_of, new_session, text_of


@pytest.mark.parametrize("top_k", [0, 8])
async def test_a_drafter_that_learns_hears_every_correction_and_the_end(
    tokenizer: Tokenizer, clock: FakeClock, top_k: int
) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    target, drafter = FakeTarget("t1", ids), FakeDrafter("d1", [*ids[:7], 0, *ids[8:20], 0, *ids[21:]])
    target.draft_nodes = itertools.cycle([3, 0])
    request = make_request(tokenizer, correction_top_k=top_k)

    events = await collect(new_session(request, FakeFleet(clock, [target], [drafter]), tokenizer))

    assert text_of(events) == TEXT
    assert target.channels[0].opened.correction_top_k == top_k
    told = [body for body in drafter.channels[0].sent if isinstance(body, Observe)]
    heard = [token for body in told for token in body.token_ids]
    if top_k:
        assert [body.correction for body in told].count(b"law") == 2
        assert heard == ids
        assert told[-1].max_nodes == 0
    else:
        assert not any(body.correction for body in told)
        assert all(body.max_nodes for body in told) and len(heard) < len(ids)


async def test_the_answer_names_the_version_that_drafted_last(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    first, second = FakeDrafter("d1", ids), FakeDrafter("d2", ids)
    second.version = "d2@acme.4"
    fleet = FakeFleet(clock, [FakeTarget("t1", ids)], [first, second])
    session = new_session(make_request(tokenizer), fleet, tokenizer, credit=8)

    events = []
    async for event in session.events():
        events.append(event)
        if len(events) == 4:
            first.die()

    assert finished_of(events).figures.drafter_version == "d2@acme.4"


@pytest.mark.parametrize(("drafter", "version"), [("lookup", "lookup@0"), (None, "")])
async def test_a_drafter_in_the_targets_step_has_its_first_version(
    tokenizer: Tokenizer, clock: FakeClock, drafter: str | None, version: str
) -> None:
    target = FakeTarget("t1", tokenizer.encode_prompt(TEXT))
    request = make_request(tokenizer, drafter=drafter, drafts_locally=drafter is not None)

    events = await collect(new_session(request, FakeFleet(clock, [target]), tokenizer))

    assert finished_of(events).figures.drafter_version == version
