"""Drives the systems: all the same way, one process at a time, in turns.

A system without a drafter for each language in one process can serve one language at a time only, so every system is
driven language by language, and its tokens a second are the mean over the languages. What serves all languages at once
is also asked them mixed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.peers.contract import Bench, System
from polydraft.commands.bench_load import Answer, Progress, closed_loop
from polydraft.commands.bench_stats import Record, ratio
from polydraft.commands.common import NamedPrompt

SWEEP_QUESTIONS = 4
SWEEP_PHASE_S = 3.0
MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class Load:
    """How many requests at a time, of one language or of all."""

    name: str
    concurrency: int
    mixed: bool = False

    def fits(self, system: System) -> bool:
        return self.concurrency <= system.max_concurrency and not (self.mixed and system.one_language)


ALONE, EIGHT, EIGHT_MIXED = LOADS = (Load("1", 1), Load("8", 8), Load("8 mixed", 8, mixed=True))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask, and how long."""

    questions: Sequence[NamedPrompt]
    phase_s: float
    """Of each language at a concurrency above one; alone, each question is asked once."""
    warmup: int
    """Answers of each language that count for nothing, at each start of a process."""

    def by_language(self) -> dict[str, list[NamedPrompt]]:
        grouped: dict[str, list[NamedPrompt]] = {}
        for question in self.questions:
            grouped.setdefault(question.language, []).append(question)
        return grouped


@dataclass(frozen=True, slots=True)
class Figure:
    """Tokens a second of one system under one load, in one language or mixed."""

    system: str
    load: str
    threads: int
    language: str
    tokens_per_s: float
    answers: tuple[Record, ...] = field(repr=False)


async def run(system: System, bench: Bench, plan: Plan, threads: int, loads: Sequence[Load]) -> list[Figure]:
    """Start the system, warm it up, measure, end it; once, or once a language."""
    figures = []
    for language, questions in _processes(system, plan):
        async with system.start(bench, threads, language) as answer:
            for load in loads:
                for name, asked in _blocks(load, questions):
                    speed, records = await _measure(answer, asked, load, plan)
                    figures.append(Figure(system.name, load.name, threads, name, speed, tuple(records)))
    return figures


async def best_threads(
    system: System, bench: Bench, plan: Plan, choices: Sequence[int], progress: Progress
) -> dict[Load, int]:
    """The number of threads that is fastest under each load, from a short sweep over one language."""
    language, questions = next(iter(plan.by_language().items()))
    short = Plan(questions[:SWEEP_QUESTIONS], min(plan.phase_s, SWEEP_PHASE_S), plan.warmup)
    loads = [load for load in LOADS if load.fits(system) and not load.mixed]
    best: dict[Load, tuple[float, int]] = {}
    for threads in choices:
        for figure in await run(system, bench, short, threads, loads):
            progress(f"sweep, {language}: {describe(figure)}")
            load = next(load for load in loads if load.name == figure.load)
            best[load] = max(best.get(load, (0.0, 0)), (figure.tokens_per_s, threads))
    chosen = {load: threads for load, (_, threads) in best.items()}
    return chosen | ({EIGHT_MIXED: chosen[EIGHT]} if EIGHT_MIXED.fits(system) else {})


def loads_by_threads(threads: Mapping[Load, int]) -> dict[int, list[Load]]:
    """Loads that can share a process."""
    return {count: [load for load in threads if threads[load] == count] for count in sorted(set(threads.values()))}


def describe(figure: Figure) -> str:
    return (
        f"{figure.system}, {figure.threads} threads, load {figure.load}, {figure.language}: "
        f"{figure.tokens_per_s:.1f} tokens/s"
    )


def _processes(system: System, plan: Plan) -> Iterator[tuple[str, dict[str, list[NamedPrompt]]]]:
    """The language each process is started for, and what it is asked by language."""
    grouped = plan.by_language()
    if not system.one_language:
        yield "", grouped
        return
    for language, questions in grouped.items():
        yield language, {language: questions}


def _blocks(load: Load, questions: Mapping[str, list[NamedPrompt]]) -> Iterator[tuple[str, list[NamedPrompt]]]:
    if not load.mixed:
        yield from questions.items()
        return
    together = [question for of_language in questions.values() for question in of_language]
    random.Random(0).shuffle(together)
    yield MIXED, together


async def _measure(
    answer: Answer, questions: Sequence[NamedPrompt], load: Load, plan: Plan
) -> tuple[float, Sequence[Record]]:
    first = {question.language: question for question in reversed(questions)}
    for question in first.values():
        for _ in range(plan.warmup):
            await answer(question, 0)
    if load.concurrency > 1:
        # A window of its own for each language that is in the mix: as much is measured as one by one.
        phase = await closed_loop(answer, questions, load.concurrency, plan.phase_s * len(first), drafted=False)
        return phase.tokens_per_s(), phase.records
    records = [await answer(question, 0) for question in questions]
    return ratio(sum(len(r.token_ids) for r in records), sum(r.total_s for r in records)), records
