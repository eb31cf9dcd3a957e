"""What a target promises of its rows' bits."""

from __future__ import annotations

from enum import Enum


class Numerics(Enum):
    """What is promised of a row's bits."""

    INVARIANT = "invariant"
    """They depend on the model and the token ids at and before the row, on nothing else."""
    FAST = "fast"
    """They may depend on what else is in the step."""
