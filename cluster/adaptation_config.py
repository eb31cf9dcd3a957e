"""The section of the configuration about drafters that learn."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cluster.schema import Count, FilePath, Fraction, Section


class AdaptationConfig(Section):
    """How tier drafters learn from the answers of tenants that want it."""

    directory: FilePath | None = None
    """Where versions are kept, a folder for each drafter and tenant; all machines must see it."""
    top_k: Annotated[int, Field(ge=1, le=256)] = 32
    """Of the target's law where it overruled a draft: so many of the likeliest tokens."""
    divergence: Literal["forward_kl", "reverse_kl", "jensen_shannon", "total_variation"] = "forward_kl"
    buffer_positions: Count = 16_384
    """Overruled places that are kept to learn from; the oldest answers go first."""
    batch_positions: Count = 512
    """Overruled places of one update."""
    updates_per_batch: Count = 4
    """How often the drafter is updated for each `batch_positions` new ones; beyond 1 it sees places again."""
    updates_per_gate: Count = 16
    """After so many updates they are judged, and kept or thrown away."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 5e-4
    """Of embeddings and norms; that of the layers' matrices is in proportion."""
    other_places: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Weight of a place of an answer that was not overruled, which teaches the token that stands there, beside one that
    was, which teaches the target's law. 0: only overruled places teach."""
    new_tokens: Annotated[int, Field(ge=0, le=65_536)] = 2_048
    """Tokens that a drafter may learn to read or propose beyond those it was trained for."""
    holdout_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Of the prompts, whose answers are never learned from."""
    holdout_sessions: Count = 64
    """The newest of these answers are what updates are judged by; fewer are not enough to judge."""
    gate_tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.005
    """By how much an update may seem worse and still be taken."""
    kept_versions: Count = 16
    """The newest ones of a drafter and tenant, which can be gone back to; the weights of older ones are deleted."""
    num_cpus: Fraction = 0.1
    """Of each drafter's trainer."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch_positions > self.buffer_positions:
            raise ValueError(
                f"batch_positions: {self.batch_positions} exceeds buffer_positions {self.buffer_positions}; lower it"
            )
        return self
