"""Figures of the gate."""

from __future__ import annotations

import torch

from tests.unit.training.online.conftest import Drafter, MakeTranscripts
from training.examples import Example
from training.online.acceptance import MAX_DRAFTED, acceptance
from training.online.replay import Transcript
from training.replay import replay


def test_figures_are_those_of_a_replay_as_far_as_the_context_reaches(
    drafter: Drafter, make_transcripts: MakeTranscripts
) -> None:
    model, vocabulary = drafter
    transcripts = make_transcripts(40)
    context = model.config.max_position_embeddings
    too_long = Transcript((3,) * (2 * context), 2 * context - 4, ())
    answered = [Example(t.token_ids[: t.prompt_length], t.token_ids[t.prompt_length :]) for t in transcripts]

    found = acceptance(model, vocabulary, [*transcripts, too_long])

    expected = replay(model, vocabulary, answered, MAX_DRAFTED)
    assert (found.agreement, found.tokens_per_round) == (expected.agreement, expected.tokens_per_round)
    assert found.num_tokens == sum(expected.tokens)


def test_weights_that_are_no_numbers_foresee_nothing(drafter: Drafter, make_transcripts: MakeTranscripts) -> None:
    model, vocabulary = drafter
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)

    assert acceptance(model, vocabulary, make_transcripts(4)).agreement == 0.0
