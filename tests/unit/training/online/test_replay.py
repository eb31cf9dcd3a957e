"""The buffer stays bounded, and what judges is never learned from."""

from __future__ import annotations

import random
from dataclasses import replace

from tests.unit.training.online.conftest import ANSWER_LENGTH, MakeTranscripts
from training.online.replay import ReplayBuffer

PLACES = ANSWER_LENGTH // 2
"""Overruled ones of a transcript."""


def test_the_oldest_answers_go_when_the_bound_is_reached(make_transcripts: MakeTranscripts) -> None:
    buffer = ReplayBuffer(max_positions=5 * PLACES, holdout_share=1e-9, holdout_sessions=1, key=b"k")
    transcripts = make_transcripts(8)

    buffer.add(transcripts)

    assert buffer.learned == transcripts[3:]
    assert (buffer.num_positions, buffer.num_taken, buffer.num_dropped) == (5 * PLACES, 8 * PLACES, 3 * PLACES)


def test_prompts_are_held_out_by_key_and_keep_their_side(make_transcripts: MakeTranscripts) -> None:
    transcripts = make_transcripts(400)
    buffers = [ReplayBuffer(10_000, 0.25, 16, key) for key in (b"one", b"two")]

    sides = [[buffer.is_held_out(transcript) for transcript in transcripts] for buffer in buffers]

    assert all(60 < sum(side) < 140 for side in sides)
    assert sides[0] != sides[1]
    other_answers = [replace(t, token_ids=(*t.token_ids[: t.prompt_length], 5)) for t in transcripts]
    assert [buffers[0].is_held_out(transcript) for transcript in other_answers] == sides[0]


def test_the_newest_held_out_answers_judge_once_there_are_enough(make_transcripts: MakeTranscripts) -> None:
    buffer = ReplayBuffer(10_000, 0.25, 16, b"key")
    transcripts = make_transcripts(200)
    held_out = [transcript for transcript in transcripts if buffer.is_held_out(transcript)]

    buffer.add(held_out[:15])
    too_few = buffer.held_out
    buffer.add(transcripts)

    assert too_few is None
    assert buffer.held_out == held_out[-16:]
    assert not set(buffer.learned) & set(held_out)


def test_a_sample_holds_as_many_places_as_asked_for(make_transcripts: MakeTranscripts) -> None:
    buffer = ReplayBuffer(10_000, 1e-9, 1, b"key")
    buffer.add(make_transcripts(20))

    chosen = buffer.sample(3 * PLACES - 1, random.Random(0))

    assert len(set(chosen)) == 3
    assert len(buffer.sample(10_000, random.Random(0))) == 20
