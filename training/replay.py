"""How well a drafter foresees answers that the target wrote, without running the target (2402.01528, section 3).

The drafter is run once over a known answer; a round commits the run of places where its first choice is the target's
token, at most `max_drafted`, and the target's own token. On greedy answers that is what a chain of drafts would do in
the cluster. EOS counts as a token.

Shape letters: B answers, T tokens, H head rows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import LlamaForCausalLM

from training.bootstrap import Floats, ci95, resampled
from training.drafter import TrimmedVocabulary, draft_logits
from training.examples import IGNORED, Example, groups_by_length, make_batch

_TOKENS_A_BATCH = 4_000


@dataclass(frozen=True, slots=True)
class Replay:
    """What a drafter would have done for each of some answers."""

    tokens: tuple[int, ...]
    hits: tuple[int, ...]
    """Tokens that are the drafter's first choice."""
    rounds: tuple[int, ...]

    @property
    def agreement(self) -> float:
        """Share of the tokens that are the drafter's first choice."""
        return sum(self.hits) / sum(self.tokens)

    @property
    def tokens_per_round(self) -> float:
        """Over all answers together."""
        return sum(self.tokens) / sum(self.rounds)


def replay(
    drafter: LlamaForCausalLM, vocabulary: TrimmedVocabulary, answered: Sequence[Example], max_drafted: int
) -> Replay:
    """`answered` in the target's ids."""
    found = hits(drafter, vocabulary, answered)
    return Replay(
        tuple(len(of_answer) for of_answer in found),
        tuple(sum(of_answer) for of_answer in found),
        tuple(count_rounds(of_answer, max_drafted) for of_answer in found),
    )


@torch.inference_mode()
def hits(drafter: LlamaForCausalLM, vocabulary: TrimmedVocabulary, answered: Sequence[Example]) -> list[list[bool]]:
    """For each answer token, whether it is the drafter's first choice after the tokens before it.

    Weights that are no numbers choose nothing.
    """
    result: dict[int, list[bool]] = {}
    head_ids_H = torch.tensor(vocabulary.token_ids[: vocabulary.num_head_tokens])
    as_rows = [
        Example(tuple(vocabulary.rows(example.prompt_ids)), tuple(vocabulary.rows(example.answer_ids)))
        for example in answered
    ]
    for group in groups_by_length(as_rows, _TOKENS_A_BATCH, random.Random(0)):
        rows_BT = make_batch([as_rows[i] for i in group]).ids_BT.to(drafter.device)
        answers_BT = make_batch([answered[i] for i in group]).labels_BT
        best = draft_logits(drafter, vocabulary, rows_BT).max(-1)
        choices_BT = head_ids_H[best.indices.cpu()].where(best.values.isfinite().cpu(), -1)
        for index, choice_T, answer_T in zip(group, choices_BT, answers_BT, strict=True):
            labelled_T = answer_T != IGNORED
            result[index] = (choice_T[labelled_T] == answer_T[labelled_T]).tolist()
    return [result[i] for i in range(len(answered))]


def count_rounds(answer_hits: Sequence[bool], max_drafted: int) -> int:
    """Rounds that an answer takes.

    count_rounds([True, True, False, True], 4) -> 2: two drafted tokens and a correction, then one drafted token.
    """
    position, rounds = 0, 0
    while position < len(answer_hits):
        drafted = 0
        while drafted < max_drafted and position < len(answer_hits) and answer_hits[position]:
            position, drafted = position + 1, drafted + 1
        position, rounds = position + 1, rounds + 1
    return rounds


def mean_difference(first: Sequence[Replay], second: Sequence[Replay]) -> tuple[float, tuple[float, float]]:
    """Tokens a round of `first` minus `second`, mean over the languages, with its 95 % interval.

    Both are replays of the same answers, language by language; answers are drawn anew within each language.
    """
    pairs = list(zip(first, second, strict=True))
    differences = [a.tokens_per_round - b.tokens_per_round for a, b in pairs]
    drawn_R = sum(
        resampled(_difference, _array(a.tokens), _array(a.rounds), _array(b.rounds), seed=number)
        for number, (a, b) in enumerate(pairs)
    )
    return sum(differences) / len(pairs), ci95(np.asarray(drawn_R) / len(pairs))


def interval(of_language: Replay) -> tuple[float, float]:
    """95 % interval of the tokens a round."""
    return ci95(resampled(_tokens_per_round, _array(of_language.tokens), _array(of_language.rounds)))


def _tokens_per_round(tokens: Floats, rounds: Floats) -> Floats:
    per_round: Floats = tokens.sum(-1) / rounds.sum(-1)
    return per_round


def _difference(tokens: Floats, first_rounds: Floats, second_rounds: Floats) -> Floats:
    return _tokens_per_round(tokens, first_rounds) - _tokens_per_round(tokens, second_rounds)


def _array(values: Sequence[int]) -> Floats:
    return np.array(values, dtype=np.float64)
