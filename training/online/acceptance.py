"""How well a drafter foresees answers that are known: the figures that the gate compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import LlamaForCausalLM

from training.drafter import TrimmedVocabulary
from training.examples import Example
from training.online.replay import Transcript
from training.replay import replay

MAX_DRAFTED = 4
"""Of a round, as the demo family's drafters are judged."""


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
    context = model.config.max_position_embeddings
    answered = [
        Example(t.token_ids[: t.prompt_length], t.token_ids[t.prompt_length : context])
        for t in transcripts
        if t.prompt_length < min(context, len(t.token_ids))
    ]
    if not answered:
        return Acceptance(0.0, 0.0, 0)
    found = replay(model, vocabulary, answered, MAX_DRAFTED)
    return Acceptance(found.agreement, found.tokens_per_round, sum(found.tokens))
