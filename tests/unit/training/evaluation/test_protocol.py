"""What is asked, how often and with what history; drafted and plain answers are the same."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from engine.drafters import DrafterConfig, create_drafter
from engine.engine import CannotServe, Engine, EngineConfig
from engine.model import TargetModel, load_target
from engine.scheduler import SchedulerConfig
from engine.verify.verifiers import VERIFIERS
from tests.tiny_targets import MAX_CONTEXT, VOCAB_SIZE, write_tiny_target
from training.evaluation.protocol import (
    NUM_WARMUP,
    Answer,
    Chat,
    EvaluatedDrafter,
    Evaluation,
    Evaluator,
    Message,
    Plan,
)
from training.evaluation.questions import Question

GERMAN = [Question("a", str(n), "", "de", ("guten Tag",) * n) for n in (1, 2)]
FRENCH = Question("b", "1", "", "fr", ("bonjour",))
DRAFTERS = (EvaluatedDrafter("one", 4, frozenset({"de"})), EvaluatedDrafter("two", 3, frozenset({"fr"})))


class RecordedChat:
    """Encodes characters; decodes to one character a token; remembers what it was asked to encode."""

    def __init__(self) -> None:
        self.histories: list[list[Message]] = []

    def encode(self, messages: Sequence[Message]) -> list[int]:
        self.histories.append(list(messages))
        return [3 + ord(letter) % 90 for _, content in messages for letter in content]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(chr(ord("A") + token) for token in token_ids)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> TargetModel:
    return load_target(write_tiny_target(tmp_path_factory.mktemp("target")), torch.float32, torch.device("cpu"))


def evaluator(target: TargetModel, plan: Plan, chat: RecordedChat | None = None, measures: bool = False) -> Evaluator:
    scheduler = SchedulerConfig(max_context=MAX_CONTEXT)
    config = EngineConfig(num_pages=64, measures_drafts=measures, scheduler=scheduler)
    drafters = {name: create_drafter(DrafterConfig("ngram", VOCAB_SIZE, ngram_min=1)) for name in ("one", "two")}
    chat = chat or RecordedChat()
    return Evaluator(Engine(target, VERIFIERS["coupled"], config, drafters), Chat(chat.encode, chat.decode), plan)


def evaluate(target: TargetModel, plan: Plan, questions: Sequence[Question], measures: bool = False) -> Evaluation:
    return evaluator(target, plan, measures=measures).evaluate(questions, lambda line: None)


def asked(answers: Sequence[Answer]) -> set[tuple[str, str, float, int]]:
    return {(one.question.id, one.drafter, one.temperature, one.seed) for one in answers}


def test_greedy_is_asked_once_and_sampling_with_each_seed(target: TargetModel) -> None:
    plan = Plan(DRAFTERS, (0.0, 0.7), num_seeds=2, max_tokens=6)

    answers = evaluate(target, plan, GERMAN).answers

    expected = {
        (str(number), drafter, temperature, seed)
        for number in (1, 2)
        for drafter in ("", "one", "two")
        for temperature, seed in ((0.0, 0), (0.7, 0), (0.7, 1))
    }
    assert asked(answers) == expected
    assert len(answers) == len(expected)


def test_drafted_answers_are_the_plain_ones(target: TargetModel) -> None:
    plan = Plan(DRAFTERS, (0.0, 1.0), num_seeds=2, max_tokens=20)

    answers = evaluate(target, plan, [*GERMAN, FRENCH], measures=True).answers

    for answer in answers:
        key = (answer.question, answer.temperature, answer.seed)
        (plain,) = (a for a in answers if not a.drafter and (a.question, a.temperature, a.seed) == key)
        assert answer.token_ids == plain.token_ids
        assert answer.num_tokens == len(answer.token_ids) + sum(one.num_tokens for one in answer.rounds)
    assert sum(one.num_accepted for answer in answers for one in answer.rounds) > 0


def test_measured_lengths_are_timed_and_fixed_ones_counted(target: TargetModel) -> None:
    plan = Plan(DRAFTERS[:1], (0.0,), max_tokens=6)

    fixed = evaluate(target, plan, GERMAN[:1]).answers
    measured = evaluate(target, plan, GERMAN[:1], measures=True).answers

    assert [(one.drafter, one.is_counted, one.is_timed) for one in fixed] == [("", False, True), ("one", True, True)]
    assert [(one.drafter, one.is_counted, one.is_timed) for one in measured] == [
        ("", False, True),
        ("one", True, False),
        ("one", False, True),
    ]


def test_later_turns_see_the_answers_before_them(target: TargetModel) -> None:
    chat = RecordedChat()
    question = Question("a", "1", "", "de", ("eins", "zwei"))
    examined = evaluator(target, Plan((), (0.0,), max_tokens=5), chat)

    (answer,) = examined.evaluate([question], lambda line: None).answers

    first = chat.decode(answer.token_ids[0])
    first_turn: list[Message] = [("user", "eins")]
    both: list[Message] = [("user", "eins"), ("assistant", first), ("user", "zwei")]
    assert len(answer.token_ids) == 2
    assert chat.histories == [first_turn, *[first_turn, both] * (NUM_WARMUP + 1)]


def test_languages_may_be_asked_with_their_own_drafters_only(target: TargetModel) -> None:
    answers = evaluate(target, Plan(DRAFTERS, (0.0,), max_tokens=4, own_only=True), [GERMAN[0], FRENCH]).answers

    assert {(one.question.language, one.drafter) for one in answers} == {
        ("de", ""),
        ("de", "one"),
        ("fr", ""),
        ("fr", "two"),
    }


def test_what_does_not_fit_the_context_is_left_out_and_told(target: TargetModel) -> None:
    long = "x" * MAX_CONTEXT
    plan = Plan(DRAFTERS[:1], (0.0,), max_tokens=4)
    never, half = Question("a", "never", "", "de", (long,)), Question("a", "half", "", "de", ("kurz", long))

    found = evaluate(target, plan, [never, half])

    assert found.left_out == (never,)
    assert {(one.question.id, len(one.token_ids)) for one in found.answers} == {("half", 1)}
    with pytest.raises(CannotServe, match=f"no question fits the target's context of {MAX_CONTEXT}"):
        evaluate(target, plan, [never])


def test_a_prompt_is_prefilled_anew_for_every_side(target: TargetModel) -> None:
    examined = evaluator(target, Plan(DRAFTERS, (0.0,), max_tokens=4))

    examined.evaluate([Question("a", "1", "", "de", ("lang " * 20,))], lambda line: None)

    assert examined.engine.counters.prefixes.hit_tokens == 0
