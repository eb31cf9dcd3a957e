"""An answer that goes on with another drafter: the text stays, and each replica knows who drafts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from cluster.arms import ArmRecords
from cluster.choosing import DrafterChooser, records_of, task_of
from cluster.config import Config
from cluster.events import DrafterUse, Event, Started
from cluster.messages import Block, LocalDraft, ShadowScore, Verdict
from cluster.request import DrafterChoice
from cluster.session import Session, SessionSettings
from cluster.text import Tokenizer
from tests.unit.cluster.fakes import FakeClock, FakeDrafter, FakeFleet, FakeTarget, make_request
from tests.unit.cluster.sessions import TEXT, FullSpeed, collect, finished_of, text_of

CONFIG = Config.model_validate(
    {
        "target": {"model": "m"},
        "drafters": {
            "lm": {"method": "lm", "model": "d", "languages": ["de"], "max_draft_tokens": 3},
            "other": {"method": "lm", "model": "e", "languages": ["de"], "max_draft_tokens": 3},
            "lookup": {"method": "ngram", "languages": ["de"], "max_draft_tokens": 5},
        },
    }
)
LM, OTHER, LOOKUP = DrafterChoice("lm", False, 3), DrafterChoice("other", False, 3), DrafterChoice("lookup", True, 5)
LONG = TEXT * 6


def known(**tokens: int) -> ArmRecords:
    """What earlier answers told of the tokens a round of drafters."""
    records = records_of(CONFIG)
    for drafter, number in tokens.items():
        for _ in range(60):
            records.observe_tokens("de", "default", drafter, number)
    return records


def session_of(
    choices: Sequence[DrafterChoice], fleet: FakeFleet, tokenizer: Tokenizer, records: ArmRecords | None = None
) -> Session:
    chooser = DrafterChooser(choices, records or records_of(CONFIG), "de", "default", lambda _: None)
    request = replace(make_request(tokenizer, max_tokens=500), drafting=chooser.favourite, shadows=("lookup",))
    settings = SessionSettings(64, 20.0, 16)
    return Session(5, request, fleet, tokenizer, settings, FullSpeed(), fleet.clock, chooser=chooser)


def uses_of(events: list[Event]) -> dict[str, DrafterUse]:
    return {use.drafter: use for use in finished_of(events).figures.drafters}


def drafter_named(name: str, ids: Sequence[int], length: int = 3) -> FakeDrafter:
    drafter = FakeDrafter(f"{name}-1", ids, length)
    drafter.name = name
    return drafter


@pytest.fixture
def ids(tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode_prompt(LONG)


@pytest.fixture
def target(ids: list[int]) -> FakeTarget:
    return FakeTarget("t1", ids)


async def test_a_tier_drafter_that_brings_nothing_gives_way_to_one_in_the_targets_step(
    tokenizer: Tokenizer, clock: FakeClock, ids: list[int], target: FakeTarget
) -> None:
    wrong = drafter_named("lm", [id + 1 for id in ids])
    target.draws = {"lookup": 4}
    fleet = FakeFleet(clock, [target], [wrong])

    events = await collect(session_of([LM, LOOKUP], fleet, tokenizer, known(lm=4, lookup=3)))

    assert text_of(events) == LONG
    assert isinstance(events[0], Started) and events[0].drafter == "lm"
    (channel,) = target.channels
    assert channel.opened.local is None and channel.opened.shadows == ("lookup",)
    assert [body.local for body in channel.sent if isinstance(body, Block) and body.local] == [LocalDraft("lookup", 5)]
    assert wrong.channels[0].closed
    uses, figures = uses_of(events), finished_of(events).figures
    assert figures.drafter_changes == 1 and figures.drafter_version == "lookup@0"
    assert uses["lm"].tokens == uses["lm"].rounds > 4 and uses["lookup"].tokens > 3 * uses["lookup"].rounds
    assert uses["lm"].expected_rate_at_first > uses["lookup"].expected_rate_at_first
    assert uses["lookup"].expected_rate > uses["lm"].expected_rate
    assert sum(use.tokens for use in uses.values()) == len(ids) - 1  # the prefill's is nobody's


async def test_one_in_the_targets_step_gives_way_to_a_tier_drafter_that_begins_in_mid_answer(
    tokenizer: Tokenizer, clock: FakeClock, ids: list[int], target: FakeTarget
) -> None:
    right = drafter_named("lm", ids)
    fleet = FakeFleet(clock, [target], [right])

    events = await collect(session_of([LM, LOOKUP], fleet, tokenizer, known(lm=3, lookup=4)))

    assert text_of(events) == LONG
    assert target.channels[0].opened.local == LocalDraft("lookup", 5)
    (channel,) = right.channels
    begun_at = len(channel.opened.token_ids) - channel.opened.prompt_length
    assert 4 < begun_at < len(ids) / 2 and channel.opened.token_ids[-begun_at:] == tuple(ids[:begun_at])
    assert [body.drafter for body in target.channels[0].sent if isinstance(body, Block) and body.drafter] == ["lm"]
    assert finished_of(events).figures.drafter_version == "lm-1@0"
    assert uses_of(events)["lm"].tokens > len(ids) / 2


async def test_from_one_tier_drafter_to_another(
    tokenizer: Tokenizer, clock: FakeClock, ids: list[int], target: FakeTarget
) -> None:
    wrong, right = drafter_named("lm", [id + 1 for id in ids]), drafter_named("other", ids)
    fleet = FakeFleet(clock, [target], [wrong, right])

    events = await collect(session_of([LM, OTHER], fleet, tokenizer, known(lm=4, other=3)))

    assert text_of(events) == LONG
    assert wrong.channels[0].closed and len(right.channels) == 1
    assert uses_of(events)["other"].tokens > len(ids) / 2


async def test_a_drafter_without_replicas_is_not_taken_and_one_that_is_lost_is_left(
    tokenizer: Tokenizer, clock: FakeClock, ids: list[int], target: FakeTarget
) -> None:
    target.draws = {"lookup": 2}
    events = await collect(session_of([LM, LOOKUP], FakeFleet(clock, [target]), tokenizer, known(lm=4, lookup=2)))

    assert text_of(events) == LONG
    assert isinstance(events[0], Started) and events[0].drafter == "lookup"
    assert finished_of(events).figures.drafter_changes == 0

    again = FakeTarget("t2", ids)
    again.draws = {"lookup": 2}
    dying = drafter_named("lm", ids)
    session = session_of([LM, LOOKUP], FakeFleet(clock, [again], [dying]), tokenizer, known(lm=4, lookup=2))
    events = []
    async for event in session.events():
        events.append(event)
        if len(events) == 5:
            dying.die()

    assert text_of(events) == LONG
    assert isinstance(events[0], Started) and events[0].drafter == "lm"
    assert uses_of(events)["lookup"].tokens > uses_of(events)["lm"].tokens > 0


async def test_a_lost_target_is_replaced_by_one_that_drafts_as_the_answer_does_by_then(
    tokenizer: Tokenizer, clock: FakeClock, ids: list[int], target: FakeTarget
) -> None:
    second = FakeTarget("t2", ids)
    target.load_pages = 200
    target.draws = second.draws = {"lookup": 4}
    target.dies_at_length = len(ids) // 2
    fleet = FakeFleet(clock, [target, second], [drafter_named("lm", [id + 1 for id in ids])])

    events = await collect(session_of([LM, LOOKUP], fleet, tokenizer, known(lm=4, lookup=3)))

    assert text_of(events) == LONG
    assert finished_of(events).figures.failovers == 1
    assert second.channels[0].opened.local == LocalDraft("lookup", 5)


def test_rounds_of_the_drafter_before_and_rounds_without_a_draft_count_for_neither() -> None:
    chooser = DrafterChooser([LM, LOOKUP], known(lm=4, lookup=2), "de", "default", lambda _: None)
    assert chooser.begin({"lm", "lookup"}) == LM

    def round_of(drafter: str, tokens: int, shadows: tuple[ShadowScore, ...] = ()) -> Verdict:
        return Verdict(
            10,
            tuple(range(tokens)),
            0,
            0,
            10 + tokens,
            0,
            1,
            drafter=drafter,
            seconds=0.01,
            plain_seconds=0.01,
            shadows=shadows,
        )

    chooser.observe(round_of("lookup", 5))
    chooser.observe(round_of("", 1))
    chooser.observe(round_of("lm", 3, (ShadowScore("lookup", 2, 7),)))
    chooser.observe(round_of("lm", 2))

    uses = {use.drafter: (use.rounds, use.tokens, use.scored_rounds, use.scored_tokens) for use in chooser.uses()}
    assert uses == {"off": (1, 1, 0, 0), "lm": (2, 5, 0, 0), "lookup": (0, 0, 1, 3)}


async def test_the_language_of_the_answers_last_words_is_looked_at_now_and_then(
    tokenizer: Tokenizer, clock: FakeClock, ids: list[int], target: FakeTarget
) -> None:
    seen: list[str] = []
    session = session_of([LM, LOOKUP], FakeFleet(clock, [target]), tokenizer)
    assert session._chooser is not None
    session._chooser._detect = lambda words: seen.append(words)

    await collect(session)

    assert 3 < len(seen) <= len(ids) / 6
    assert all(len(words) == 60 and words in LONG for words in seen)


def test_prompts_that_repeat_themselves_are_a_task_of_their_own() -> None:
    """What drafts from text bring there says nothing of other prompts."""
    assert task_of("acme", list(range(100)) * 2) == "acme, repeating"
    assert task_of("acme", [*range(100), *range(20)]) == "acme"
    assert task_of("acme", []) == task_of("acme", [7, 8]) == "acme"
