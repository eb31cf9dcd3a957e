"""Figures of the gate are those of the offline evaluation."""

from __future__ import annotations

import pytest
import torch

from tests.unit.training.online.conftest import Drafter, MakeTranscripts
from training.examples import Example
from training.online.acceptance import MAX_DRAFTED, acceptance, count_rounds
from training.replay import count_rounds as rounds_of_replay
from training.replay import replay


def test_figures_are_those_of_the_offline_evaluation(drafter: Drafter, make_transcripts: MakeTranscripts) -> None:
    model, vocabulary = drafter
    transcripts = make_transcripts(40)
    answered = [Example(t.token_ids[: t.prompt_length], t.token_ids[t.prompt_length :]) for t in transcripts]

    found = acceptance(model, vocabulary, transcripts)

    expected = replay(model, vocabulary, answered, MAX_DRAFTED)
    assert (found.agreement, found.tokens_per_round) == (expected.agreement, expected.tokens_per_round)


@pytest.mark.parametrize("hits", ["", "0", "1", "1101", "111111", "11110", "0000", "1111011110"])
def test_rounds_are_counted_as_by_the_evaluation(hits: str) -> None:
    of_answer = [hit == "1" for hit in hits]

    assert count_rounds(of_answer) == rounds_of_replay(of_answer, MAX_DRAFTED)


def test_weights_that_are_no_numbers_foresee_nothing(drafter: Drafter, make_transcripts: MakeTranscripts) -> None:
    model, vocabulary = drafter
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)

    assert acceptance(model, vocabulary, make_transcripts(4)).agreement == 0.0
