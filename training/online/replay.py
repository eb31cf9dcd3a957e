"""What one drafter was lately corrected in for one tenant: bounded, parted into what is learned and what judges.

Whole answers are kept, not single places: one pass over an answer gives the drafter's law at all of its places, and no
answer is on both sides. The side is a keyed hash of the prompt, so that a prompt that comes again stays on its own.
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from engine.corrections import Correction


@dataclass(frozen=True, slots=True)
class Transcript:
    """An answer as far as a drafter followed it."""

    token_ids: tuple[int, ...]
    """Prompt and committed tokens."""
    prompt_length: int
    corrections: tuple[Correction, ...]
    """Where the target overruled the drafter; a position of `len(token_ids)` is that of the end of sequence."""


class ReplayBuffer:
    """The newest transcripts of one drafter and one tenant. Bounded by overruled places; the oldest go first."""

    def __init__(self, max_positions: int, holdout_share: float, holdout_sessions: int, key: bytes) -> None:
        """`key`: up to 64 secret bytes, so that nobody can choose prompts for one side."""
        self._max_positions = max_positions
        self._holdout_share = holdout_share
        self._key = key
        self._learned: deque[Transcript] = deque()
        self._held_out: deque[Transcript] = deque(maxlen=holdout_sessions)
        self.num_positions = 0
        self.num_taken = 0
        """Places that have ever come."""
        self.num_dropped = 0
        """Of these, the ones that went for newer ones."""

    def add(self, transcripts: Iterable[Transcript]) -> None:
        for transcript in transcripts:
            if self.is_held_out(transcript):
                self._held_out.append(transcript)
            elif transcript.corrections:
                self._learned.append(transcript)
                self.num_positions += len(transcript.corrections)
                self.num_taken += len(transcript.corrections)
        while self.num_positions > self._max_positions:
            dropped = len(self._learned.popleft().corrections)
            self.num_positions -= dropped
            self.num_dropped += dropped

    def is_held_out(self, transcript: Transcript) -> bool:
        """Whether the transcript judges and is not learned from."""
        prompt = np.array(transcript.token_ids[: transcript.prompt_length], dtype=np.uint32).tobytes()
        digest = hashlib.blake2b(prompt, key=self._key, digest_size=8).digest()
        return int.from_bytes(digest, "big") < self._holdout_share * 2**64

    @property
    def learned(self) -> list[Transcript]:
        """What may be learned from, oldest first."""
        return list(self._learned)

    @property
    def held_out(self) -> list[Transcript] | None:
        """The newest that judge, oldest first; None while there are too few."""
        return list(self._held_out) if len(self._held_out) == self._held_out.maxlen else None

    def sample(self, num_positions: int, rng: random.Random) -> list[Transcript]:
        """Transcripts drawn without replacement until they hold `num_positions` overruled places, or all."""
        chosen: list[Transcript] = []
        missing = num_positions
        for transcript in rng.sample(self._learned, len(self._learned)):
            if missing <= 0:
                break
            chosen.append(transcript)
            missing -= len(transcript.corrections)
        return chosen

    def clear(self) -> None:
        """Forget all transcripts; the counts stay."""
        self._learned.clear()
        self._held_out.clear()
        self.num_positions = 0
