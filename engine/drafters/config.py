"""What a drafter is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DrafterConfig:
    """One drafter's settings; each method reads the fields it needs."""

    method: str
    """A key of `engine.drafters.DRAFTERS`."""
    vocab_size: int
    """The target's; proposals are ids below it."""
    eos_token_ids: tuple[int, ...] = ()
    """A branch ends with the first of these."""
    model: Path | None = None
    """Directory of a trained drafter, for methods that have one."""
    models: Mapping[str, Path] = field(default_factory=dict)
    """In place of `model` one for each language."""
    max_nodes: int = 16
    """Most nodes of a tree, whatever is asked for."""
    dtype: str = "auto"
    """`auto`, `float32` or `bfloat16`."""
    device: str = "cpu"
    draws: bool = False
    """Whether tokens must come with the laws that they were drawn from, for verifiers that need them."""
    min_confidence: float = 0.25
    """`lm`, `graph`, `cape`: draft no further behind a node whose path is less probable than this; 0 never stops."""
    branching: int = 4
    """`lm`, `graph`: most children of a node; 1 drafts chains."""
    widths: tuple[int, ...] = (4, 2, 2)
    """`multi_candidate`: children of each node, level by level."""
    stages: tuple[DrafterConfig, ...] = ()
    """`cascade`: the drafters that it is made of, the dearest first."""
    hand_over_after: int | None = None
    """`cascade`: nodes of a drafter behind which the next goes on; None: as many as are measured to pay."""
    ngram_min: int = 2
    ngram_max: int = 4
    """`ngram`: the shortest and the longest suffix looked up."""

    skip_file: Path | None = None
    """`layer_skip`: which sublayers are left out (see `engine.drafters.skip_file`)."""
    exit_confidence: float = 0.6
    """`layer_skip`: where the threshold begins below which a draft ends; 0: none ever does."""

    def __post_init__(self) -> None:
        if self.vocab_size < 1:
            raise ValueError(f"vocab_size is {self.vocab_size}; give the target's vocabulary size")
        if self.max_nodes < 0:
            raise ValueError(f"max_nodes is {self.max_nodes}; give 0 or more")
        if self.branching < 1:
            raise ValueError(f"branching is {self.branching}; give 1 or more")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths are {self.widths}; give a number of children for each level, 1 or more")
        if not 0.0 <= self.min_confidence <= 1.0:
            raise ValueError(f"min_confidence is {self.min_confidence}; give a probability")
        if not 0.0 <= self.exit_confidence <= 1.0:
            raise ValueError(f"exit_confidence is {self.exit_confidence}; give a probability")
        if not 1 <= self.ngram_min <= self.ngram_max:
            raise ValueError(f"ngram sizes are {self.ngram_min} to {self.ngram_max}; give 1 <= ngram_min <= ngram_max")
