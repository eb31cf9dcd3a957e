"""Drives a cluster for a benchmark: one question at a time, or a closed loop of workers in alternating phases."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from polydraft import AsyncClient, Chunk, Finished, GenerateOptions, PolydraftError, Started
from polydraft.commands.bench_stats import Phase, Record
from polydraft.commands.common import NamedPrompt, PromptId

SETTLE_SHARE = 0.1
"""Of a phase, before its window opens: the workers start together and need to fall out of step."""

Progress = Callable[[str], None]

Answer = Callable[[NamedPrompt, int], Awaitable[Record]]
"""Asks a question in the n-th lap through all of them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask, and how."""

    questions: Sequence[NamedPrompt]
    options: GenerateOptions
    seed: int
    repeats: int
    concurrency: int
    warmup: int
    phase_s: float
    pairs: int


class QuestionFailed(Exception):
    """A question got no answer; the benchmark ends."""

    def __init__(self, question: PromptId, error: PolydraftError) -> None:
        super().__init__(f"request {question}: {error}")
        self.question = question
        self.error = error


async def ask(
    client: AsyncClient,
    question: NamedPrompt,
    options: GenerateOptions,
    *,
    seed: int,
    drafted: bool,
    show: Progress | None = None,
) -> Record:
    """Ask once and note what came when; `show` gets the text as it comes. Raises QuestionFailed."""
    asked: GenerateOptions = {**options, "seed": seed}
    if not drafted:
        asked["speculation"] = "off"
    begin_s = time.perf_counter()
    arrivals_s: list[tuple[float, int]] = []
    token_ids: list[int] = []
    language, drafter, rounds = question.language, "", 0
    try:
        async for event in client.stream(question.prompt, **asked):
            if isinstance(event, Chunk):
                if event.token_ids:
                    arrivals_s.append((time.perf_counter(), len(event.token_ids)))
                    token_ids.extend(event.token_ids)
                if show is not None:
                    show(event.text)
            elif isinstance(event, Started):
                language, drafter = question.language or event.language, event.drafter
            elif isinstance(event, Finished):
                rounds = event.speculation.rounds
    except PolydraftError as error:
        raise QuestionFailed(question.id, error) from None
    total_s = time.perf_counter() - begin_s
    return Record(
        question.id, language, drafter, drafted, seed, tuple(token_ids), rounds, begin_s, total_s, tuple(arrivals_s)
    )


async def warm_up(client: AsyncClient, plan: Plan) -> list[Record]:
    """Ask the first question of each language a few times, both ways; the answers count for nothing."""
    first = {question.language: question for question in reversed(plan.questions)}
    return [
        await ask(client, question, plan.options, seed=plan.seed, drafted=drafted)
        for question in first.values()
        for _ in range(plan.warmup)
        for drafted in (True, False)
    ]


async def run_alone(client: AsyncClient, plan: Plan, progress: Progress) -> list[Record]:
    """One stream. A phase is one question: asked with drafting and without, the first side changing each time."""
    await warm_up(client, plan)
    records = []
    for repeat in range(plan.repeats):
        for number, question in enumerate(plan.questions):
            first = (number + repeat) % 2 == 0
            for drafted in (first, not first):
                records.append(await ask(client, question, plan.options, seed=plan.seed + repeat, drafted=drafted))
            progress(f"repeat {repeat + 1} of {plan.repeats}, question {number + 1} of {len(plan.questions)}")
    return records


async def run_loaded(client: AsyncClient, plan: Plan, progress: Progress) -> list[Phase]:
    """A closed loop in phases, drafting on and off by turns; both sides of a pair ask the same in the same order."""
    questions = list(plan.questions)
    random.Random(plan.seed).shuffle(questions)  # mixes the languages
    await warm_up(client, plan)
    phases = []
    for pair in range(plan.pairs):
        for drafted in (True, False):
            phases.append(await _phase(client, plan, questions, drafted))
            speed = phases[-1].tokens_per_s()
            progress(f"pair {pair + 1} of {plan.pairs}, drafting {'on' if drafted else 'off'}: {speed:.1f} tokens/s")
    return phases


async def _phase(client: AsyncClient, plan: Plan, questions: Sequence[NamedPrompt], drafted: bool) -> Phase:
    async def answer(question: NamedPrompt, lap: int) -> Record:
        return await ask(client, question, plan.options, seed=plan.seed + lap, drafted=drafted)

    return await closed_loop(answer, questions, plan.concurrency, plan.phase_s, drafted=drafted)


async def closed_loop(
    answer: Answer, questions: Sequence[NamedPrompt], concurrency: int, phase_s: float, *, drafted: bool
) -> Phase:
    """Workers ask the questions in order, again and again, each its next as soon as it has an answer."""
    begin_s = time.perf_counter() + phase_s * SETTLE_SHARE
    end_s = begin_s + phase_s
    numbers = itertools.count()
    records: list[Record] = []

    async def worker() -> None:
        while time.perf_counter() < end_s:
            lap, place = divmod(next(numbers), len(questions))
            records.append(await answer(questions[place], lap))

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(concurrency):
                workers.create_task(worker())
    except* QuestionFailed as failures:
        failed = failures.exceptions[0]
    else:
        return Phase(drafted, begin_s, end_s, tuple(records))
    raise failed
