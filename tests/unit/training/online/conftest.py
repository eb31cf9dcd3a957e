"""Transcripts of a toy target whose every token decides the next, and a tiny drafter that knows nothing of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import LlamaForCausalLM

from engine.corrections import Correction, LikelyTokens
from tests.fakes_drafter import VOCAB_SIZE, write_tiny_drafter
from training.drafter import TrimmedVocabulary, load_drafter
from training.online.replay import Transcript
from training.online.settings import LearningSettings

PROMPT_LENGTH, ANSWER_LENGTH = 4, 12
WRITTEN = tuple(range(4, VOCAB_SIZE, 2))
"""What the target writes: even tokens, which the tiny drafter may propose."""
Drafter = tuple[LlamaForCausalLM, TrimmedVocabulary]
MakeTranscripts = Callable[..., list[Transcript]]


def next_token(token: int, step: int) -> int:
    """What the target writes behind a token: another language has another step."""
    return WRITTEN[(WRITTEN.index(token) + step) % len(WRITTEN)]


@pytest.fixture
def make_transcripts() -> MakeTranscripts:
    rng = random.Random(5)

    def make(count: int, *, prompt_tokens: tuple[int, ...] = WRITTEN, step: int = 2) -> list[Transcript]:
        """Every second token of an answer was overruled."""
        transcripts = []
        for _ in range(count):
            token_ids = [rng.choice(prompt_tokens) for _ in range(PROMPT_LENGTH - 1)]
            token_ids.append(rng.choice(WRITTEN))
            for _ in range(ANSWER_LENGTH):
                token_ids.append(next_token(token_ids[-1], step))
            corrections = tuple(
                Correction(place, LikelyTokens((token_ids[place], 1), (0.9, 0.05)))
                for place in range(PROMPT_LENGTH, len(token_ids), 2)
            )
            transcripts.append(Transcript(tuple(token_ids), PROMPT_LENGTH, corrections))
        return transcripts

    return make


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The directory of a random drafter."""
    write_tiny_drafter(tmp_path / "base", scale=0.1, input_only=(5, 7))
    return tmp_path / "base"


@pytest.fixture
def drafter(base: Path) -> Drafter:
    return load_drafter(base)


@pytest.fixture
def settings(tmp_path: Path) -> LearningSettings:
    return LearningSettings(
        target=tmp_path / "no-target",
        vocab_size=VOCAB_SIZE,
        divergence="forward_kl",
        buffer_positions=600,
        batch_positions=60,
        updates_per_batch=4,
        updates_per_gate=8,
        learning_rate=0.01,
        other_places=1.0,
        new_tokens=8,
        holdout_share=0.25,
        holdout_sessions=8,
        gate_tolerance=0.005,
        kept_versions=100,
    )


@pytest.fixture(autouse=True)
def the_same_key_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which prompts are held out, and in which order places are learned, follows from a secret key."""
    monkeypatch.setattr("training.online.versions.secrets.token_hex", lambda num_bytes: "5e" * num_bytes)
