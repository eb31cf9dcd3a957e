"""Asks questions with each drafter and without, by the protocol of Yi et al. (EMNLP 2024, 2406.16758).

One stream, one engine for all sides, the drafters in the target's step. Temperature 0 is asked once, others with
seeds 0, 1, ... Wall time is that of whole answers, prefill and the drafter's own prefill included; tokens are counted
by their ids. Answers that warm up count for nothing. What one answer prefilled is not found by another.

Each side measures draft lengths for itself, anew for each file, language and temperature. What is counted (tokens a
round, acceptance) comes from blocks as long as the drafter's configuration allows, which alone compare between
drafters; what is timed comes from blocks as the engine is configured to choose them. Where it measures lengths a
drafter is therefore asked twice, where they are fixed once.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress, count

from engine.draft_length import DraftLengths
from engine.engine import CannotServe, Engine
from engine.local import Round, generate
from engine.sampling import SamplingParams
from engine.session import LocalDrafting, OpenRequest
from training.evaluation.questions import Question

NUM_WARMUP = 3
"""Uncounted answers to the first question, for each side that is timed."""

Message = tuple[str, str]
"""Role and content."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Chat:
    """The target's tokenizer and chat template."""

    encode: Callable[[Sequence[Message]], Sequence[int]]
    """Ids of a chat, ready for the answer."""
    decode: Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True)
class EvaluatedDrafter:
    """A drafter of the matrix."""

    name: str
    max_nodes: int
    """Of a block."""
    languages: frozenset[str]
    """That it is configured for."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask, and how."""

    drafters: tuple[EvaluatedDrafter, ...]
    temperatures: tuple[float, ...] = (0.0, 1.0)
    num_seeds: int = 3
    max_tokens: int = 1024
    own_only: bool = False
    """Ask each language only with the drafters configured for it."""

    def drafters_for(self, language: str) -> tuple[EvaluatedDrafter, ...]:
        return tuple(one for one in self.drafters if not self.own_only or language in one.languages)

    def seeds(self, temperature: float) -> range:
        return range(1 if temperature == 0 else self.num_seeds)


@dataclass(frozen=True, slots=True)
class Side:
    """One way to answer. `lengths` measures for this side alone."""

    drafter: str
    """"" decodes plainly."""
    local: LocalDrafting
    lengths: DraftLengths
    is_counted: bool
    is_timed: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """A question answered by one side: all its turns."""

    question: Question
    drafter: str
    temperature: float
    seed: int
    is_counted: bool
    """Whether its rounds say how good the drafter is."""
    is_timed: bool
    """Whether its time says how fast the side is."""
    token_ids: tuple[tuple[int, ...], ...]
    """Of each turn that was asked: a turn that does not fit the context is not, nor are those after it."""
    rounds: tuple[Round, ...]
    wall_s: float
    step_s: float = 0.0
    """The target's, median over the answer's steps."""
    drafting_s: float = 0.0
    """In the drafter, its prefill included."""
    num_nodes: int = 0
    """That it drafted."""

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.token_ids))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All answers, and the questions that do not fit the target's context."""

    answers: tuple[Answer, ...]
    left_out: tuple[Question, ...]


@dataclass(slots=True)
class Evaluator:
    """Asks questions, one at a time."""

    engine: Engine
    chat: Chat
    plan: Plan
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def evaluate(self, questions: Sequence[Question], progress: Progress) -> Evaluation:
        """Ask every question with every side. `CannotServe` if none fits the target's context."""
        fits = [self._fits(self._encode([("user", question.turns[0])])) for question in questions]
        if not any(fits):
            raise CannotServe(f"no question fits the target's context of {self._max_context} tokens; ask shorter ones")
        answers: list[Answer] = []
        for (domain, language), group in by_group(list(compress(questions, fits))).items():
            for temperature in self.plan.temperatures:
                for line, asked in self._ask_group(group, temperature):
                    progress(f"{domain} {language}, T={temperature:g}, {line}")
                    answers += asked
        return Evaluation(tuple(answers), tuple(compress(questions, [not one for one in fits])))

    def _ask_group(self, group: Sequence[Question], temperature: float) -> Iterator[tuple[str, list[Answer]]]:
        """The answers to each question of a file and language at one temperature."""
        sides = self._sides(group[0].language)
        for side in sides:
            for _ in range(NUM_WARMUP if side.is_timed else 0):
                self._ask(group[0], side, temperature, seed=0)
        for seed in self.plan.seeds(temperature):
            for number, question in enumerate(group):
                turn = (number + seed) % len(sides)  # another side is first each time
                asked = [self._ask(question, side, temperature, seed) for side in sides[turn:] + sides[:turn]]
                yield f"seed {seed}, question {number + 1} of {len(group)}", asked

    def _sides(self, language: str) -> list[Side]:
        """Plain decoding and each drafter, with nothing measured yet."""
        measures = self.engine.config.measures_drafts
        sides = [Side("", LocalDrafting(), DraftLengths(), is_counted=False, is_timed=True)]
        for one in self.plan.drafters_for(language):
            local = LocalDrafting(one.name, one.max_nodes)
            sides.append(Side(one.name, local, DraftLengths(adapts=False), is_counted=True, is_timed=not measures))
            if measures:
                sides.append(Side(one.name, local, DraftLengths(), is_counted=False, is_timed=True))
        return sides

    def _ask(self, question: Question, side: Side, temperature: float, seed: int) -> Answer:
        """Turn by turn, the side's own answers in the history."""
        self.engine.draft_lengths = side.lengths
        history: list[Message] = []
        token_ids: list[tuple[int, ...]] = []
        rounds: list[Round] = []
        wall_s = 0.0
        drafters, steps_s = self.engine.local_drafters, self.engine.counters.step_times_s
        before_s, nodes_before = drafters.drafting_s, drafters.num_nodes
        steps_s.clear()
        for turn in question.turns:
            history.append(("user", turn))
            prompt = self._encode(history)
            if not self._fits(prompt):
                break
            sampling = SamplingParams(temperature, seed=seed)
            request = self._request(prompt, side.local, sampling, question.language)
            started_s = time.perf_counter()
            (answer,) = generate(self.engine, [request], is_checked=False).values()
            wall_s += time.perf_counter() - started_s
            token_ids.append(tuple(answer.token_ids))
            rounds += answer.rounds
            history.append(("assistant", self.chat.decode(answer.token_ids)))
        return Answer(
            question=question,
            drafter=side.drafter,
            temperature=temperature,
            seed=seed,
            is_counted=side.is_counted,
            is_timed=side.is_timed,
            token_ids=tuple(token_ids),
            rounds=tuple(rounds),
            wall_s=wall_s,
            step_s=statistics.median(steps_s) if steps_s else 0.0,
            drafting_s=drafters.drafting_s - before_s,
            num_nodes=drafters.num_nodes - nodes_before,
        )

    def _request(
        self, prompt: tuple[int, ...], local: LocalDrafting, sampling: SamplingParams, language: str
    ) -> OpenRequest:
        number = next(self._numbers)
        # Each answer is a tenant's of its own: tenants share no KV, so every side prefills the whole prompt.
        return OpenRequest(
            number,
            prompt,
            len(prompt),
            sampling,
            self.plan.max_tokens,
            tenant=str(number),
            local=local,
            language=language,
        )

    def _encode(self, history: Sequence[Message]) -> tuple[int, ...]:
        return tuple(self.chat.encode(history))

    def _fits(self, prompt: Sequence[int]) -> bool:
        return len(prompt) < self._max_context

    @property
    def _max_context(self) -> int:
        return self.engine.config.scheduler.max_context


def by_group(questions: Sequence[Question]) -> dict[tuple[str, str], list[Question]]:
    """The questions of each domain and language, in the order in which these first come."""
    groups: dict[tuple[str, str], list[Question]] = {}
    for question in questions:
        groups.setdefault((question.domain, question.language), []).append(question)
    return groups
