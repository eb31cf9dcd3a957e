"""The report of an evaluation: a JSON object that scripts read. Its Markdown is in `training.evaluation.markdown`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypedDict

from training.evaluation import figures
from training.evaluation.figures import Figure
from training.evaluation.protocol import Answer, Evaluation


class FigureRecord(TypedDict):
    """A figure: mean and standard deviation over seeds (null of one), 95 % interval over questions."""

    mean: float
    std: float | None
    ci95: list[float]


class Place(TypedDict):
    """What was asked: the questions of one domain (file) and language, at one temperature."""

    domain: str
    language: str
    temperature: float


class Cell(Place):
    """A drafter on these questions."""

    drafter: str
    is_own: bool
    """Whether the drafter is configured for the language."""
    tokens_per_round: FigureRecord
    """With blocks as long as the drafter's configuration allows, as the three below."""
    acceptance_by_offset: list[float]
    compared_by_offset: list[int]
    """Rounds behind each acceptance."""
    drafted_per_round: float
    """Nodes that the target verified a round."""
    node_cost: float
    """Of a drafted node, in steps of the target without drafts."""
    tokens_per_s: FigureRecord
    """With draft lengths as configured, as the two below."""
    speedup: FigureRecord
    timed_tokens_per_round: float
    identical: list[int]
    """Drafted answers with the ids of the plain one, of how many."""


class Plain(Place):
    """The same without a drafter."""

    num_questions: int
    num_unasked_turns: int
    """Later turns, over all seeds, that did not fit the context."""
    mean_answer_tokens: float
    tokens_per_s: FigureRecord


ALL = ""
"""Domain of means over all domains."""


class OwnMean(TypedDict):
    """Mean over the cells of a domain whose drafter is the language's own."""

    domain: str
    temperature: float
    num_cells: int
    tokens_per_round: float
    speedup: float


class DrafterFacts(TypedDict):
    """A drafter of the matrix."""

    method: str
    language: str
    """As its directory says; "" of a method without one."""
    languages: list[str]
    """That it is configured for."""
    max_nodes: int
    """Of a block."""


class Provenance(TypedDict):
    """Of the code that ran."""

    commit: str
    versions: dict[str, str]


class RunFacts(TypedDict):
    """How the figures came about."""

    target_id: str
    numerics_id: str
    drafters: dict[str, DrafterFacts]
    """By name, in the order of the matrix's columns."""
    settings: dict[str, object]
    machine: dict[str, object]
    config: dict[str, object]


class Facts(RunFacts, Provenance):
    """Both."""


class Report(Facts):
    """The contract of `evaluate --json`."""

    identical: list[int]
    left_out: list[dict[str, str]]
    """Questions that do not fit the context."""
    own_means: list[OwnMean]
    cells: list[Cell]
    plain: list[Plain]


def make_report(evaluation: Evaluation, facts: Facts) -> Report:
    """The figures of all answers."""
    cells: list[Cell] = []
    plain: list[Plain] = []
    for answers in _grouped(
        evaluation.answers, lambda one: (one.question.domain, one.question.language, one.temperature)
    ):
        of_drafters = _grouped(answers, lambda one: one.drafter)
        (baseline,) = (some for some in of_drafters if not some[0].drafter)
        plain.append(_plain(baseline))
        cells += [_cell(some, baseline, facts["drafters"]) for some in of_drafters if some is not baseline]
    return {
        **facts,
        "identical": [sum(cell["identical"][place] for cell in cells) for place in (0, 1)],
        "left_out": [{"domain": question.domain, "question_id": question.id} for question in evaluation.left_out],
        "own_means": _own_means(cells),
        "cells": cells,
        "plain": plain,
    }


def _grouped(answers: Iterable[Answer], key: Callable[[Answer], Hashable]) -> list[list[Answer]]:
    """Answers of equal keys together, in the order in which the keys first come."""
    groups: dict[Hashable, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(key(answer), []).append(answer)
    return list(groups.values())


def _cell(drafted: Sequence[Answer], plain: Sequence[Answer], drafters: Mapping[str, DrafterFacts]) -> Cell:
    counted = [answer for answer in drafted if answer.is_counted]
    timed = [answer for answer in drafted if answer.is_timed]
    rounds = [one for answer in counted for one in answer.rounds]
    offsets = figures.acceptance_by_offset(rounds)
    drafter = drafted[0].drafter
    return {
        **_place(drafted),
        "drafter": drafter,
        "is_own": drafted[0].question.language in drafters[drafter]["languages"],
        "tokens_per_round": _record(figures.tokens_per_round(counted)),
        "acceptance_by_offset": [offset.acceptance for offset in offsets],
        "compared_by_offset": [offset.num_compared for offset in offsets],
        "drafted_per_round": sum(one.num_drafted for one in rounds) / max(len(rounds), 1),
        "node_cost": figures.node_cost(timed, plain),
        "tokens_per_s": _record(figures.tokens_per_s(timed)),
        "speedup": _record(figures.speedup(timed, plain)),
        "timed_tokens_per_round": figures.tokens_per_round(timed).mean,
        "identical": list(figures.count_identical(drafted, plain)),
    }


def _plain(answers: Sequence[Answer]) -> Plain:
    return {
        **_place(answers),
        "num_questions": len({answer.question.id for answer in answers}),
        "num_unasked_turns": sum(len(answer.question.turns) - len(answer.token_ids) for answer in answers),
        "mean_answer_tokens": statistics.fmean(len(ids) for answer in answers for ids in answer.token_ids),
        "tokens_per_s": _record(figures.tokens_per_s(answers)),
    }


def _place(answers: Sequence[Answer]) -> Place:
    first = answers[0]
    return {"domain": first.question.domain, "language": first.question.language, "temperature": first.temperature}


def _record(figure: Figure) -> FigureRecord:
    return {"mean": figure.mean, "std": figure.std, "ci95": list(figure.ci95)}


def _own_means(cells: Sequence[Cell]) -> list[OwnMean]:
    """Of each domain, and of all where there are several."""
    domains = list(dict.fromkeys(cell["domain"] for cell in cells))
    means: list[OwnMean] = []
    for temperature in dict.fromkeys(cell["temperature"] for cell in cells):
        own = [cell for cell in cells if cell["is_own"] and cell["temperature"] == temperature]
        for domain in [*domains, ALL] if len(domains) > 1 else domains:
            if some := [cell for cell in own if domain in (ALL, cell["domain"])]:
                means.append(
                    {
                        "domain": domain,
                        "temperature": temperature,
                        "num_cells": len(some),
                        "tokens_per_round": statistics.fmean(cell["tokens_per_round"]["mean"] for cell in some),
                        "speedup": statistics.fmean(cell["speedup"]["mean"] for cell in some),
                    }
                )
    return means
