"""How a drafter learns while it serves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LearningSettings:
    """`adaptation:` of the configuration says what each means, and holds the defaults."""

    target: Path
    """Directory of the target; what new tokens mean is read from its embedding if its weights are there."""
    vocab_size: int
    """Of the target."""
    divergence: str
    """A key of `training.divergences.DIVERGENCES`."""
    buffer_positions: int
    batch_positions: int
    updates_per_batch: int
    updates_per_gate: int
    learning_rate: float
    other_places: float
    new_tokens: int
    holdout_share: float
    holdout_sessions: int
    gate_tolerance: float
    kept_versions: int
    weight_decay: float = 0.0
    """Of the layers' matrices."""
