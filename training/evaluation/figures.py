"""The figures of an evaluation, as pure functions over its answers.

    tokens a round  = tokens of all answers / rounds of all answers        of the counted answers
    accepted at i   = rounds that accepted a token at offset i / rounds that compared one there
    speed(question) = tokens of its turns / wall time of its turns         of the timed answers
    speedup         = mean over questions of speed(question) with the drafter / the same without: a ratio of means

As `polydraft bench` counts them: a round is a pass of the target after prefill, its tokens hold the target's own, and
the one token that prefill itself yields is counted where the unseen EOS would be. Offsets are depths of the draft
tree; a round compares a token at offset i if it accepted those before it and had drafted one there, whatever branch it
was. Each seed gives a figure of its own: told are their mean and standard deviation (ddof 1), and a 95 % bootstrap
interval of that mean over questions, drawn anew with all their seeds.

Shape letters: Q questions, S seeds, R resamples; `...QS` arrays may have R in front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.local import Round
from training.bootstrap import Floats, ci95, resampled
from training.evaluation.protocol import Answer


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure over seeds, and how sure it is."""

    mean: float
    std: float | None
    """Over seeds; None of a single one."""
    ci95: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Offset:
    """What became of the tokens drafted at one offset, counted in rounds."""

    num_compared: int
    num_accepted: int

    @property
    def acceptance(self) -> float:
        return self.num_accepted / self.num_compared


def tokens_per_round(answers: Sequence[Answer]) -> Figure:
    """Of counted answers of one drafter."""
    return _figure(_tokens_per_round_S, _table(answers, _num_tokens), _table(answers, lambda one: len(one.rounds)))


def tokens_per_s(answers: Sequence[Answer]) -> Figure:
    """Mean over questions, of timed answers of one side."""
    return _figure(_mean_speed_S, _table(answers, _num_tokens), _table(answers, lambda one: one.wall_s))


def speedup(drafted: Sequence[Answer], plain: Sequence[Answer]) -> Figure:
    """Of timed answers of one drafter over those without, to the same questions with the same seeds."""
    tables = [_table(side, value) for side in (drafted, plain) for value in (_num_tokens, lambda one: one.wall_s)]
    return _figure(_speedup_S, *tables)


def node_cost(drafted: Iterable[Answer], plain: Iterable[Answer]) -> float:
    """What a drafted node costs its drafter, its prefill and what it learns from verdicts shared out, in plain steps of
    the target: those of the median answer. 0 if nothing was drafted."""
    some = list(drafted)
    num_nodes, step_s = sum(one.num_nodes for one in some), float(np.median([one.step_s for one in plain]))
    return sum(one.drafting_s for one in some) / num_nodes / step_s if num_nodes and step_s else 0.0


def acceptance_by_offset(rounds: Iterable[Round]) -> list[Offset]:
    """Offset 1 first, as far as any round compared."""
    compared: list[int] = []
    accepted: list[int] = []
    for one in rounds:
        missing = one.num_compared - len(compared)
        compared += [0] * missing
        accepted += [0] * missing
        for place in range(one.num_compared):
            compared[place] += 1
            accepted[place] += place < one.num_accepted
    return [Offset(*counts) for counts in zip(compared, accepted, strict=True)]


def count_identical(drafted: Iterable[Answer], plain: Iterable[Answer]) -> tuple[int, int]:
    """How many drafted answers have the ids of the plain one with the same question and seed; of how many."""
    expected = {_key(answer): answer.token_ids for answer in plain}
    same = [answer.token_ids == expected[_key(answer)] for answer in drafted]
    return sum(same), len(same)


def _key(answer: Answer) -> tuple[object, ...]:
    question = answer.question
    return question.domain, question.id, answer.temperature, answer.seed


def _num_tokens(answer: Answer) -> float:
    return answer.num_tokens


def _table(answers: Sequence[Answer], value: Callable[[Answer], float]) -> Floats:
    """A value of each answer, [Q, S], questions in order of id."""
    values = {(answer.question.id, answer.seed): value(answer) for answer in answers}
    ids = sorted({question for question, _ in values})
    seeds = sorted({seed for _, seed in values})
    return np.array([[values[question, seed] for seed in seeds] for question in ids], dtype=np.float64)


def _figure(of_seeds: Callable[..., Floats], *tables_QS: Floats) -> Figure:
    """`of_seeds` turns tables [..., Q, S] into a figure for each seed, [..., S]."""
    values_S = of_seeds(*tables_QS)
    means_R = resampled(lambda *drawn: of_seeds(*drawn).mean(-1), *tables_QS)
    std = float(values_S.std(ddof=1)) if len(values_S) > 1 else None
    return Figure(float(values_S.mean()), std, ci95(means_R))


def _tokens_per_round_S(tokens_QS: Floats, rounds_QS: Floats) -> Floats:
    return _ratio(tokens_QS.sum(-2), rounds_QS.sum(-2))


def _mean_speed_S(tokens_QS: Floats, seconds_QS: Floats) -> Floats:
    speeds_S: Floats = _ratio(tokens_QS, seconds_QS).mean(-2)
    return speeds_S


def _speedup_S(on_tokens_QS: Floats, on_s_QS: Floats, off_tokens_QS: Floats, off_s_QS: Floats) -> Floats:
    return _ratio(_mean_speed_S(on_tokens_QS, on_s_QS), _mean_speed_S(off_tokens_QS, off_s_QS))


def _ratio(values: Floats, bases: Floats) -> Floats:
    """values / bases; 0 where nothing was measured."""
    return np.divide(values, bases, out=np.zeros_like(values), where=bases > 0)
