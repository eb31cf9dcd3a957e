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

import torch
from transformers import LlamaForCausalLM

from training.drafter import TrimmedVocabulary, draft_logits
from training.examples import IGNORED, Example, groups_by_length, make_batch

_TOKENS_A_BATCH = 4_000
_NUM_RESAMPLES = 2_000


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
    """For each answer token, whether it is the drafter's first choice after the tokens before it."""
    result: dict[int, list[bool]] = {}
    head_ids_H = torch.tensor(vocabulary.token_ids[: vocabulary.num_head_tokens])
    as_rows = [
        Example(tuple(vocabulary.rows(example.prompt_ids)), tuple(vocabulary.rows(example.answer_ids)))
        for example in answered
    ]
    for group in groups_by_length(as_rows, _TOKENS_A_BATCH, random.Random(0)):
        rows_BT = make_batch([as_rows[i] for i in group]).ids_BT.to(drafter.device)
        answers_BT = make_batch([answered[i] for i in group]).labels_BT
        choices_BT = head_ids_H[draft_logits(drafter, vocabulary, rows_BT).argmax(-1).cpu()]
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


def mean_difference_interval(
    first: Sequence[Replay], second: Sequence[Replay], seed: int = 0
) -> tuple[float, float, float]:
    """Tokens a round of `first` minus `second`, mean over the languages, with its 95 % interval.

    Both are replays of the same answers, language by language; answers are resampled within each language (bootstrap).
    """
    rng = random.Random(seed)

    def difference(chosen: Sequence[Sequence[int]]) -> float:
        return sum(
            _ratio(a, picked) - _ratio(b, picked) for a, b, picked in zip(first, second, chosen, strict=True)
        ) / len(first)

    whole = [range(len(of_language.tokens)) for of_language in first]
    drawn = sorted(difference([rng.choices(picked, k=len(picked)) for picked in whole]) for _ in range(_NUM_RESAMPLES))
    return difference(whole), drawn[int(0.025 * len(drawn))], drawn[int(0.975 * len(drawn))]


def interval(of_language: Replay, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the tokens a round over answers resampled (bootstrap)."""
    rng = random.Random(seed)
    whole = range(len(of_language.tokens))
    drawn = sorted(_ratio(of_language, rng.choices(whole, k=len(whole))) for _ in range(_NUM_RESAMPLES))
    return drawn[int(0.025 * len(drawn))], drawn[int(0.975 * len(drawn))]


def _ratio(of_language: Replay, picked: Sequence[int]) -> float:
    return sum(of_language.tokens[i] for i in picked) / sum(of_language.rounds[i] for i in picked)
