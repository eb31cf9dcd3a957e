"""Which way to draft pays: simulated requests whose arms bring known tokens in known time."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest

from cluster.arms import OFF_ARM, Arm, ArmChooser, ArmRecords

LANGUAGES = ("de", "fr", "ru", "ja", "zh")
ARMS = (
    Arm(OFF_ARM),
    *(Arm(tag, frozenset({tag}), seconds=1.2) for tag in LANGUAGES),
    Arm("ngram", seconds=1.0, opening=0.2),
)
NAMES = [arm.name for arm in ARMS if arm.name != OFF_ARM]
SECONDS = {OFF_ARM: 1.0, **dict.fromkeys(LANGUAGES, 1.35), "ngram": 1.04}
OPENING = {OFF_ARM: 0.0, **dict.fromkeys(LANGUAGES, 2.0), "ngram": 0.1}
OWN_TOKENS = {"de": 2.6, "fr": 2.3, "ru": 2.0, "ja": 1.2, "zh": 1.3}
"""Of the language's own drafter: two languages' do not pay."""
NGRAM_TOKENS = {"de": 1.15, "fr": 1.1, "ru": 1.1, "ja": 1.02, "zh": 1.5}


def mean_tokens(arm: str, language: str) -> float:
    """Of a round."""
    if arm == OFF_ARM:
        return 1.0
    if arm == "ngram":
        return NGRAM_TOKENS[language]
    return OWN_TOKENS[language] if arm == language else 1.25


@dataclass
class World:
    """Rounds of known law. Time is counted, not measured."""

    rng: random.Random

    def round(self, arm: str, language: str, *, is_opening: bool) -> tuple[int, float]:
        seconds = SECONDS[arm] * self.rng.lognormvariate(0.0, 0.2)
        if is_opening:
            return 1, seconds + OPENING[arm]
        goes_on = 1 - 1 / mean_tokens(arm, language)
        tokens = 1
        while tokens < 9 and self.rng.random() < goes_on:
            tokens += 1
        return tokens, seconds


def best_arm(language: str) -> str:
    """With hindsight."""
    return max(SECONDS, key=lambda arm: mean_tokens(arm, language) / SECONDS[arm])


def stream(seed: int, count: int) -> list[tuple[str, int]]:
    """Language and length of requests."""
    rng = random.Random(seed)
    return [(rng.choice(LANGUAGES), rng.randrange(20, 120)) for _ in range(count)]


def serve_fixed(requests: list[tuple[str, int]], arm_of: Callable[[str], str], seed: int) -> float:
    """Seconds with an arm for each language."""
    world, total = World(random.Random(seed)), 0.0
    for language, length in requests:
        arm, is_opening = arm_of(language), True
        while length > 0:
            tokens, seconds = world.round(arm, language, is_opening=is_opening)
            length, total, is_opening = length - tokens, total + seconds, False
    return total


def serve_chosen(requests: list[tuple[str, int]], records: ArmRecords, seed: int) -> float:
    """Seconds with the arms that are chosen."""
    world, total = World(random.Random(seed)), 0.0
    for language, length in requests:
        chooser = ArmChooser(records, NAMES, language, "task")
        chooser.begin(NAMES)
        is_opening = True
        while length > 0:
            arm = chooser.current
            tokens, seconds = world.round(arm, language, is_opening=is_opening)
            length, total = length - tokens, total + seconds
            chooser.observe(tokens, seconds, 1.0)
            is_opening = length > 0 and chooser.choose(length) != arm
    return total


@dataclass(frozen=True)
class Served:
    """A mixed stream, and what a router knows behind it."""

    requests: list[tuple[str, int]]
    seconds: float
    records: ArmRecords


@pytest.fixture(scope="module")
def served() -> Served:
    requests, records = stream(1, 1_500), ArmRecords(ARMS, LANGUAGES)
    return Served(requests, serve_chosen(requests, records, 2), records)


@pytest.fixture
def learned(served: Served) -> ArmRecords:
    return copy.deepcopy(served.records)


def test_a_mixed_stream_is_served_as_by_the_best_arm_of_each_language(served: Served) -> None:
    assert served.seconds < 1.03 * serve_fixed(served.requests, best_arm, 2)
    for arm in SECONDS:
        assert served.seconds < serve_fixed(served.requests, lambda _, arm=arm: arm, 2), arm  # type: ignore[misc]


SEEN_EVERY, SEEN_LATE = 6, 4
"""Rounds from one look at the language of the answer's last words to the next, and how old these words are."""


def rounds_until_noticed(learned: ArmRecords, before: str, after: str, seed: int, *, is_seen: bool) -> float:
    """After how many rounds in another language its arm is taken. The n-gram arm is scored every third round."""
    world, chooser = World(random.Random(seed)), ArmChooser(copy.deepcopy(learned), NAMES, before, "task")
    chooser.begin(NAMES)
    is_opening = True
    for number in range(90):
        arm, language = chooser.current, before if number < 30 else after
        tokens, seconds = world.round(arm, language, is_opening=is_opening)
        is_scored = number % 3 == 0 and arm != "ngram"
        shadows = {"ngram": world.round("ngram", language, is_opening=False)[0]} if is_scored else {}
        chooser.observe(tokens, seconds, 1.0, shadows)
        if is_seen and number % SEEN_EVERY == seed % SEEN_EVERY:
            chooser.saw(before if number - SEEN_LATE < 30 else after)
        is_opening = chooser.choose(200) != arm
        if number >= 30 and chooser.current == after:
            return number - 29
    return math.inf


CHANGES = [("de", "fr"), ("fr", "de"), ("ru", "fr"), ("ja", "de"), ("zh", "fr")]


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_a_text_that_goes_on_in_another_language_is_noticed_within_15_rounds(
    learned: ArmRecords, before: str, after: str
) -> None:
    rounds = sorted(rounds_until_noticed(learned, before, after, seed, is_seen=True) for seed in range(20))

    assert rounds[len(rounds) * 3 // 4] <= 15


def test_it_is_noticed_by_what_drafts_bring_too_but_later(learned: ArmRecords) -> None:
    """As in a translation, whose words are in a language that says nothing."""
    rounds = sorted(rounds_until_noticed(learned, "fr", "de", seed, is_seen=False) for seed in range(20))

    assert rounds[len(rounds) // 2] <= 40


def test_a_translation_keeps_the_drafter_that_its_rounds_speak_for(learned: ArmRecords) -> None:
    world, chooser = World(random.Random(1)), ArmChooser(copy.deepcopy(learned), NAMES, "de", "task")
    chooser.begin(NAMES)
    taken = []
    for number in range(80):
        chooser.observe(*world.round(chooser.current, "de", is_opening=False), 1.0)
        if number % SEEN_EVERY == 0:
            chooser.saw("fr")
        taken.append(chooser.choose(200))

    assert taken.count("de") > 70


def test_seconds_are_counted_in_plain_rounds_whatever_the_load() -> None:
    """A machine that gets faster under one arm alone: what is known of it against the others stays."""
    records = ArmRecords(ARMS, LANGUAGES)
    chooser = ArmChooser(records, NAMES, "de", "task")
    chooser.begin(["ngram"])
    for number in range(200):
        plain = 0.02 if number < 100 else 0.005
        chooser.observe(1, 1.04 * plain, plain)
        chooser.observe(1, 0.5, 0.0)  # the target does not know yet

    assert records.seconds("ngram") == pytest.approx(1.04, abs=0.01)
    assert records.seconds("de") == pytest.approx(1.2)


def test_what_an_unused_arm_would_have_brought_is_learned_from(learned: ArmRecords) -> None:
    """A text that repeats itself: the n-gram arm is scored beside the drafter, and taken."""
    chooser = ArmChooser(learned, NAMES, "de", "task")
    assert chooser.begin(NAMES) == "de"

    rounds = 0
    while chooser.current != "ngram" and rounds < 40:
        chooser.observe(3, 1.35, 1.0, {"ngram": 6})
        chooser.choose(200)
        rounds += 1

    assert rounds <= 8
    assert chooser.uses["ngram"].shadow_rounds == rounds


def test_near_the_end_nothing_is_opened_any_more(learned: ArmRecords) -> None:
    chooser = ArmChooser(learned, ["ja"], "ja", "task")
    chooser.current = OFF_ARM
    for _ in range(20):
        chooser.observe(1, 1.0, 1.0, {"ja": 4})

    assert chooser.choose(remaining_tokens=2) == OFF_ARM
    assert chooser.choose(remaining_tokens=400) == "ja"


def test_a_change_must_be_made_up_for_by_as_many_tokens_as_were_written(learned: ArmRecords) -> None:
    """How long an answer gets is not known: one that is young is likely to be short."""
    chooser = ArmChooser(learned, ["ja"], "ja", "task")
    chooser.current = OFF_ARM
    changed_at = 0
    while chooser.choose(remaining_tokens=400) == OFF_ARM and changed_at < 100:
        chooser.observe(1, 1.0, 1.0, {"ja": 3})
        changed_at += 1

    gain_per_token = 1 - 1 / chooser.expected_rate("ja")
    assert changed_at == pytest.approx(learned.opening("ja") / gain_per_token, rel=0.2)


def test_an_arm_that_is_left_alone_is_hoped_for_more_and_more() -> None:
    """One that was unlucky at first is tried again."""
    records, hopes = ArmRecords(ARMS, LANGUAGES), []
    for arm, rounds in (("de", 10), ("ngram", 100), ("ngram", 900), ("de", 300)):
        for number in range(rounds):
            records.observe_tokens("de", "task", arm, 1 + number % 2)
        hopes.append(records.hope("de", "task", "de"))

    unlucky, later, much_later, known = hopes
    assert known < unlucky / 2 and unlucky < later < much_later


def test_only_arms_that_a_request_may_take_are_taken(learned: ArmRecords) -> None:
    chooser = ArmChooser(learned, ["ngram"], "de", "task")

    for _ in range(30):
        chooser.observe(1, 1.0, 1.0, {"de": 9})
        assert chooser.choose(500) in (OFF_ARM, "ngram")


def test_another_tenants_texts_count_little_where_ones_own_are_known() -> None:
    records = ArmRecords(ARMS, LANGUAGES)
    for _ in range(400):
        records.observe_tokens("de", "prose", "ngram", 1)
        records.observe_tokens("de", "code", "ngram", 5)

    expected: Mapping[str, float] = {task: records.tokens("de", task, "ngram") for task in ("prose", "code", "new")}

    assert expected["prose"] < 1.3 < expected["new"] < 4.7 < expected["code"]
