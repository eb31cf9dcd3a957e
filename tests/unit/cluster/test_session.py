"""The session loop against in-memory replicas: whatever happens to them, tokens and text are the target's."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import aclosing

import pytest

from cluster.errors import ContextTooLong, InternalError, Overloaded, PolydraftError, TargetChanged, Unavailable
from cluster.events import Chunk, Event, Started, TokenSource
from cluster.messages import Block, Close, Credit, FinishReason, GoAway, LocalDraft, Observe, Verdict
from cluster.request import Resume
from cluster.text import Tokenizer
from tests.unit.cluster.fakes import FakeClock, FakeDrafter, FakeFleet, FakeTarget, make_request
from tests.unit.cluster.sessions import TEXT, collect, finished_of, ids_of, new_session, text_of


async def test_drafted_answer_is_the_targets_text(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    target, drafter = FakeTarget("t1", ids), FakeDrafter("d1", ids)

    events = await collect(new_session(make_request(tokenizer), FakeFleet(clock, [target], [drafter]), tokenizer))

    assert isinstance(events[0], Started)
    assert (events[0].numerics_id, events[0].drafter, events[0].effective_seed) == ("n1", "de", 7)
    assert ids_of(events) == ids and text_of(events) == TEXT
    finished = finished_of(events)
    assert finished.finish_reason is FinishReason.EOS and finished.completion_tokens == len(ids)
    assert finished.cached_prompt_tokens == 2
    # The prefill's token is no round; each other round takes up to three drafted tokens and one of the target's own.
    assert finished.figures.rounds == -(-len(ids) // 4)
    assert finished.figures.accepted == finished.figures.drafted > 0
    assert target.channels[0].opened.local is None
    assert target.channels[0].closed and drafter.channels[0].closed


async def test_sources_name_accepted_drafts(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt("abcdefgh")
    fleet = FakeFleet(clock, [FakeTarget("t1", ids)], [FakeDrafter("d1", ids)])

    events = await collect(new_session(make_request(tokenizer), fleet, tokenizer))

    sources = [source for event in events if isinstance(event, Chunk) for source in event.sources]
    drafted, own = TokenSource.DRAFTER, TokenSource.TARGET
    assert sources == [own, drafted, drafted, drafted, own, drafted, drafted, drafted]


@pytest.mark.parametrize("local", [None, "lookup"])
async def test_without_a_tier_drafter_the_target_runs_by_itself(
    tokenizer: Tokenizer, clock: FakeClock, local: str | None
) -> None:
    ids = tokenizer.encode_prompt(TEXT * 3)
    target = FakeTarget("t1", ids)
    request = make_request(tokenizer, max_tokens=500, drafter=local, drafts_locally=local is not None)

    events = await collect(new_session(request, FakeFleet(clock, [target]), tokenizer))

    assert text_of(events) == TEXT * 3
    assert target.channels[0].opened.local == LocalDraft(local or "", 3 if local else 0)
    # More than the first credit was needed, so more was sent; and never more than the caller took.
    granted = sum(body.tokens for body in target.channels[0].sent if isinstance(body, Credit))
    assert 0 < granted <= len(ids)


async def test_slow_reader_holds_no_more_than_the_credit(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt(TEXT * 3)
    target = FakeTarget("t1", ids)
    request = make_request(tokenizer, max_tokens=500, drafter=None)

    async with aclosing(new_session(request, FakeFleet(clock, [target]), tokenizer, credit=16).events()) as events:
        await anext(events)
        await anext(events)

        assert len(target._sequence) - len(request.prompt_ids) == 16


async def test_a_drafter_hears_of_rounds_without_drafts_with_the_next_that_has_one(
    tokenizer: Tokenizer, clock: FakeClock
) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    target, drafter = FakeTarget("t1", ids), FakeDrafter("d1", ids)
    target.draft_nodes = itertools.cycle([0, 0, 2])

    events = await collect(new_session(make_request(tokenizer), FakeFleet(clock, [target], [drafter]), tokenizer))

    assert text_of(events) == TEXT
    told = [body for body in drafter.channels[0].sent if isinstance(body, Observe)]
    prompt_length = drafter.channels[0].opened.prompt_length
    # Prefill and two plain rounds give three tokens; then a drafted round and two plain ones, six at a time.
    assert [body.base_length - prompt_length for body in told[:3]] == [0, 3, 9]
    assert [body.max_nodes for body in told] == [2] * len(told)
    assert [token for body in told for token in body.token_ids] == list(ids[: 3 + 6 * (len(told) - 1)])


async def test_a_drafter_is_opened_when_a_plain_target_asks_for_blocks_after_all(
    tokenizer: Tokenizer, clock: FakeClock
) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    target, drafter = FakeTarget("t1", ids), FakeDrafter("d1", ids)
    target.is_plain = True
    target.draft_nodes = itertools.chain([0, 0, 0, 0], itertools.repeat(3))

    events = await collect(new_session(make_request(tokenizer), FakeFleet(clock, [target], [drafter]), tokenizer))

    assert text_of(events) == TEXT
    assert target.channels[0].opened.local is None
    (channel,) = drafter.channels
    assert channel.opened.token_ids == (*make_request(tokenizer).prompt_ids, *ids[:5])
    assert finished_of(events).figures.accepted > 0


async def test_a_plain_target_never_opens_the_drafter_of_a_short_answer(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt("abc")
    target, drafter = FakeTarget("t1", ids), FakeDrafter("d1", ids)
    target.is_plain = True
    target.draft_nodes = itertools.repeat(0)

    events = await collect(new_session(make_request(tokenizer), FakeFleet(clock, [target], [drafter]), tokenizer))

    assert text_of(events) == "abc"
    assert not drafter.channels


async def test_late_draft_is_an_undrafted_round(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt("abcdef")
    target, drafter = FakeTarget("t1", ids), FakeDrafter("d1", ids)
    drafter.silent = True
    session = new_session(make_request(tokenizer), FakeFleet(clock, [target], [drafter]), tokenizer)

    events: list[Event] = []
    async for event in session.events():
        events.append(event)
        if isinstance(event, Chunk):
            target.late(target.channels[0])

    assert text_of(events) == "abcdef"
    assert finished_of(events).figures.late_drafts == finished_of(events).figures.rounds == 6
    # The drafter hears of it: its tier is scaled by that.
    told = [body.late_draft for body in drafter.channels[0].sent if isinstance(body, Observe)]
    assert not told[0] and all(told[1:]) and len(told) > 1


async def test_lost_drafter_frees_the_target_from_waiting(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    target, drafter = FakeTarget("t1", ids), FakeDrafter("d1", ids)
    session = new_session(make_request(tokenizer), FakeFleet(clock, [target], [drafter]), tokenizer)

    events: list[Event] = []
    async for event in session.events():
        events.append(event)
        if len(events) == 3:
            drafter.silent = True
            drafter.die()

    assert text_of(events) == TEXT and ids_of(events) == ids
    told = [body for body in target.channels[0].sent if isinstance(body, Block) and body.local is not None]
    assert [body.local for body in told] == [LocalDraft("", 0)]


async def test_drafting_goes_on_at_a_replica_that_came_back(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    target, drafter, successor = FakeTarget("t1", ids), FakeDrafter("d1", ids), FakeDrafter("d2", ids)
    fleet = FakeFleet(clock, [target], [drafter])
    session = new_session(make_request(tokenizer), fleet, tokenizer, credit=8)

    events: list[Event] = []
    async for event in session.events():
        events.append(event)
        if len(events) == 3:
            fleet.all_drafters.append(successor)
            drafter.die()

    assert text_of(events) == TEXT
    assert successor.channels[0].epoch == 2
    opened = successor.channels[0].opened
    assert tuple(ids[: len(opened.token_ids) - opened.prompt_length]) == opened.token_ids[opened.prompt_length :]
    assert target.waits


async def test_a_drafter_that_keeps_dying_is_given_up(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    drafters = [FakeDrafter(f"d{i}", ids) for i in range(9)]
    fleet = FakeFleet(clock, [FakeTarget("t1", ids)], drafters)

    events: list[Event] = []
    async for event in new_session(make_request(tokenizer), fleet, tokenizer, credit=8).events():
        events.append(event)
        for drafter in drafters:
            if drafter.channels:
                drafter.die()

    assert text_of(events) == TEXT
    assert sum(len(drafter.channels) for drafter in drafters) == 4


@pytest.mark.parametrize("dies_at", [0, 1, 9, 50])
async def test_lost_target_leaves_no_gap_and_no_repeat(tokenizer: Tokenizer, clock: FakeClock, dies_at: int) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    first, second, drafter = FakeTarget("t1", ids), FakeTarget("t2", ids), FakeDrafter("d1", ids)
    first.load_pages, first.dies_at_length = 1_000, dies_at
    session = new_session(make_request(tokenizer), FakeFleet(clock, [first, second], [drafter]), tokenizer)

    events = await collect(session)

    assert ids_of(events) == ids and text_of(events) == TEXT
    assert finished_of(events).figures.failovers == 1
    reopened = second.channels[0]
    assert reopened.epoch == 2 and len(reopened.opened.token_ids) >= reopened.opened.prompt_length + dies_at
    assert reopened.opened.round >= first.channels[0].opened.round


async def test_round_counter_never_restarts(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    first, second = FakeTarget("t1", ids), FakeTarget("t2", ids)
    first.load_pages, first.dies_at_length = 1_000, 9
    request = make_request(tokenizer, resume=Resume((), "n1", 30))

    await collect(new_session(request, FakeFleet(clock, [first, second], [FakeDrafter("d1", ids)]), tokenizer))

    assert (first.channels[0].opened.round, second.channels[0].opened.round) == (30, 31)


async def test_only_a_replica_of_the_same_numerics_takes_over(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    first, other = FakeTarget("t1", ids), FakeTarget("t2", ids, numerics_id="n2")
    first.load_pages, first.dies_at_length = 1_000, 9

    with pytest.raises(TargetChanged, match="numerics"):
        await collect(new_session(make_request(tokenizer, drafter=None), FakeFleet(clock, [first, other]), tokenizer))

    assert not other.channels and clock() == 20.0


async def test_a_replica_that_comes_up_in_time_takes_over(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    first, second = FakeTarget("t1", ids), FakeTarget("t2", ids)
    first.dies_at_length = 9
    fleet = FakeFleet(clock, [first])
    fleet.on_wait = lambda: fleet.all_targets.append(second)

    events = await collect(new_session(make_request(tokenizer, drafter=None), fleet, tokenizer))

    assert text_of(events) == TEXT


async def test_no_target_at_all_is_unavailable(tokenizer: Tokenizer, clock: FakeClock) -> None:
    with pytest.raises(Unavailable, match="no target replica"):
        await collect(new_session(make_request(tokenizer), FakeFleet(clock, []), tokenizer))


async def test_a_replica_whose_stream_came_back_is_used_again(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    target = FakeTarget("t1", ids)
    target.dies_at_length = 9
    fleet = FakeFleet(clock, [target])

    def come_back() -> None:
        target.alive, target.dies_at_length = True, None

    fleet.on_wait = come_back
    events = await collect(new_session(make_request(tokenizer, drafter=None), fleet, tokenizer))

    assert text_of(events) == TEXT and [channel.epoch for channel in target.channels] == [1, 2]


async def test_a_request_that_kills_its_replicas_is_given_up(tokenizer: Tokenizer, clock: FakeClock) -> None:
    targets = [FakeTarget(f"t{i}", [5, 6, 7]) for i in range(9)]
    for target in targets:
        target.dies_at_length = 0

    with pytest.raises(Unavailable, match="given up"):
        await collect(new_session(make_request(tokenizer), FakeFleet(clock, targets), tokenizer))

    assert sum(target.alive for target in targets) == 3


async def test_full_replica_is_passed_over_and_only_the_last_one_tells(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    full, free = FakeTarget("t1", ids), FakeTarget("t2", ids)
    full.load_pages, full.full = 1_000, True

    events = await collect(new_session(make_request(tokenizer), FakeFleet(clock, [full, free]), tokenizer))

    assert text_of(events) == TEXT and finished_of(events).figures.failovers == 0
    with pytest.raises(Overloaded, match="all taken"):
        await collect(new_session(make_request(tokenizer), FakeFleet(clock, [full]), tokenizer))


async def test_leaving_target_hands_over_if_there_is_another(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    first, second, drafter = FakeTarget("t1", ids), FakeTarget("t2", ids), FakeDrafter("d1", ids)
    first.load_pages = 1_000
    fleet = FakeFleet(clock, [first, second], [drafter])

    events: list[Event] = []
    async for event in new_session(make_request(tokenizer), fleet, tokenizer).events():
        events.append(event)
        if len(events) == 3:
            fleet.draining.add("t1")
            first.channels[0].answer(GoAway(5.0))

    assert text_of(events) == TEXT
    assert isinstance(first.channels[0].sent[-1], Close) and len(second.channels) == 1


async def test_stale_messages_are_dropped_and_counted(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt("abcdefgh")
    target, drafter = FakeTarget("t1", ids), FakeDrafter("d1", ids)
    session = new_session(make_request(tokenizer), FakeFleet(clock, [target], [drafter]), tokenizer)

    events: list[Event] = []
    async for event in session.events():
        events.append(event)
        if len(events) == 2:
            base = len(make_request(tokenizer).prompt_ids)
            repeated = Verdict(base, (ids[0],), 0, 0, base + 1, 0, 1)
            target.channels[0].answer(repeated)
            target.channels[0].answer(repeated, epoch=0)
            drafter.channels[0].answer(Block(base, 0, b"x"))

    assert text_of(events) == "abcdefgh" and session.num_stale == 3
    assert finished_of(events).figures.failovers == 0


@pytest.mark.parametrize(
    "wrong",
    [
        Verdict(10_000, (1,), 0, 0, 10_001, 0, 9),  # one is missing before it
        Verdict(0, (1,), 0, 0, 0, 0, 9),
        Verdict(0, (1,), 0, 0, 2**64 - 1, 0, 9),
        Verdict(0, (1,), 2**32 - 1, 0, 1, 0, 9),
    ],
)
async def test_verdicts_that_cannot_be_begin_again_from_what_is_known(
    tokenizer: Tokenizer, clock: FakeClock, wrong: Verdict
) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    first, second = FakeTarget("t1", ids), FakeTarget("t2", ids)
    first.load_pages = 1_000
    session = new_session(make_request(tokenizer), FakeFleet(clock, [first, second], []), tokenizer, credit=8)

    events: list[Event] = []
    async for event in session.events():
        events.append(event)
        if len(events) == 2:
            first.channels[0].answer(wrong)

    assert text_of(events) == TEXT and ids_of(events) == ids
    assert finished_of(events).figures.failovers == 1


async def test_stop_string_across_tokens_ends_the_answer(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt("one nine; two nine! three")
    target, drafter = FakeTarget("t1", ids), FakeDrafter("d1", ids)
    request = make_request(tokenizer, stop=("nine!",))

    events = await collect(new_session(request, FakeFleet(clock, [target], [drafter]), tokenizer))

    finished = finished_of(events)
    assert finished.finish_reason is FinishReason.STOP
    assert text_of(events) == "one nine; two "
    assert tokenizer.decode(ids_of(events)) == "one nine; two nine!"
    assert finished.completion_tokens == len(ids_of(events))
    assert isinstance(target.channels[0].sent[-1], Close)


async def test_withheld_text_is_told_when_the_answer_ends_otherwise(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt("abc sto")
    request = make_request(tokenizer, stop=("stop",), drafter=None)

    events = await collect(new_session(request, FakeFleet(clock, [FakeTarget("t1", ids)]), tokenizer))

    assert text_of(events) == "abc sto" and finished_of(events).finish_reason is FinishReason.EOS


async def test_max_tokens_bounds_the_answer(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    fleet = FakeFleet(clock, [FakeTarget("t1", ids)], [FakeDrafter("d1", ids)])

    events = await collect(new_session(make_request(tokenizer, max_tokens=7), fleet, tokenizer))

    assert ids_of(events) == ids[:7] and finished_of(events).finish_reason is FinishReason.LENGTH


async def test_time_budget_ends_the_answer(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt("abcdefgh")
    target, drafter = FakeTarget("t1", ids), FakeDrafter("d1", ids)
    request = make_request(tokenizer, time_budget_s=2.0)

    events: list[Event] = []
    async for event in new_session(request, FakeFleet(clock, [target], [drafter]), tokenizer).events():
        events.append(event)
        clock.now_s += 0.9

    assert finished_of(events).finish_reason is FinishReason.TIME_BUDGET
    assert 0 < len(ids_of(events)) < len(ids) and target.channels[0].closed


@pytest.mark.parametrize("error", [ContextTooLong("it does not fit"), InternalError("the model gave no numbers")])
async def test_failure_told_by_the_target_reaches_the_caller_and_no_other_replica(
    tokenizer: Tokenizer, clock: FakeClock, error: PolydraftError
) -> None:
    target, other, drafter = FakeTarget("t2", [10, 11, 12]), FakeTarget("t1", [10, 11, 12]), FakeDrafter("d1", [])
    session = new_session(make_request(tokenizer), FakeFleet(clock, [target, other], [drafter]), tokenizer)

    with pytest.raises(type(error), match=error.message):
        async for event in session.events():
            if isinstance(event, Started):
                target.channels[0].answer(Close(error))

    assert target.channels[0].closed and drafter.channels[0].closed
    assert not other.channels


async def test_cancelled_caller_closes_both_sides(tokenizer: Tokenizer, clock: FakeClock) -> None:
    ids = tokenizer.encode_prompt(TEXT)
    target, drafter = FakeTarget("t1", ids), FakeDrafter("d1", ids)
    drafter.silent = True
    session = new_session(make_request(tokenizer), FakeFleet(clock, [target], [drafter]), tokenizer)
    started = asyncio.Event()

    async def consume() -> None:
        async with aclosing(session.events()) as events:
            async for event in events:
                if isinstance(event, Chunk):
                    started.set()

    task = asyncio.create_task(consume())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert target.channels[0].sent[-1] == Close() and drafter.channels[0].sent[-1] == Close()
