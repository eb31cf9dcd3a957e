"""How well a drafter foresees answers that are known, without a cluster: one pass over each answer.

Shape letters: B answers, T tokens, A tokens of an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import LlamaForCausalLM

from training.drafter import TrimmedVocabulary, draft_logits
from training.online.replay import Transcript

MAX_DRAFTED = 4
"""Of a round, as the demo family's drafters are judged."""
_ANSWERS_A_BATCH = 16


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Pooled over answers."""

    agreement: float
    """Share of the committed tokens that are the drafter's first choice."""
    tokens_per_round: float
    """With chains of `MAX_DRAFTED`, the target's own token included."""
    num_tokens: int


def acceptance(model: LlamaForCausalLM, vocabulary: TrimmedVocabulary, transcripts: Sequence[Transcript]) -> Acceptance:
    """Of the tokens behind the prompts, as far as the drafter's context reaches."""
    by_length = sorted(transcripts, key=lambda transcript: len(transcript.token_ids))
    num_tokens, num_hits, num_rounds = 0, 0, 0
    for start in range(0, len(by_length), _ANSWERS_A_BATCH):
        for hits in _hits(model, vocabulary, by_length[start : start + _ANSWERS_A_BATCH]):
            num_tokens += len(hits)
            num_hits += sum(hits)
            num_rounds += count_rounds(hits)
    return Acceptance(num_hits / max(num_tokens, 1), num_tokens / max(num_rounds, 1), num_tokens)


def count_rounds(hits: Sequence[bool]) -> int:
    """Rounds that an answer takes: each commits a run of hits, at most `MAX_DRAFTED`, and one token more."""
    num_rounds, drafted = 0, 0
    for hit in hits:
        if hit and drafted < MAX_DRAFTED:
            drafted += 1
        else:
            num_rounds, drafted = num_rounds + 1, 0
    return num_rounds + (drafted > 0)


@torch.inference_mode()
def _hits(
    model: LlamaForCausalLM, vocabulary: TrimmedVocabulary, transcripts: Sequence[Transcript]
) -> list[list[bool]]:
    """For each answer token whether it is the drafter's first choice; weights that are no numbers choose nothing."""
    context = model.config.max_position_embeddings
    token_ids = [transcript.token_ids[:context] for transcript in transcripts]
    rows_BT = padded([vocabulary.rows(ids) for ids in token_ids])
    best_BT, choices_BT = draft_logits(model, vocabulary, rows_BT).max(-1)
    proposed_BT = torch.tensor(vocabulary.token_ids)[choices_BT].where(best_BT.isfinite(), -1)
    hits = []
    for ids, transcript, proposed_T in zip(token_ids, transcripts, proposed_BT, strict=True):
        # The row before a token predicts it.
        proposed_A = proposed_T[transcript.prompt_length - 1 : len(ids) - 1]
        hits.append((proposed_A == torch.tensor(ids[transcript.prompt_length :], dtype=torch.int64)).tolist())
    return hits


def padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """int64 [B, T]; causal attention never looks at the padding behind a sequence."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
