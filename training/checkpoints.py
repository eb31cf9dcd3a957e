"""Checkpoints that are either whole or not there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(directory: Path, content: dict[str, Any]) -> None:
    """Write beside, flush to the disk and rename: a kill leaves the last whole checkpoint.

    Raises OSError if the disk is full; what was there stays as it is.
    """
    path = directory / CHECKPOINT
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        partial.unlink(missing_ok=True)
        kept = "the checkpoint before it is whole" if path.exists() else "there is none before it"
        raise OSError(f"{path}: cannot be written ({error}); {kept}: free some space and run the same again") from None
    partial.rename(path)


def load_checkpoint(directory: Path) -> dict[str, Any] | None:
    """The last whole checkpoint, or None."""
    path = directory / CHECKPOINT
    if not path.exists():
        return None
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def read_weights(directory: Path) -> dict[str, Tensor]:
    """The model of the last whole checkpoint; FileNotFoundError if there is none."""
    saved = load_checkpoint(directory)
    if saved is None:
        raise FileNotFoundError(f"{directory}: no checkpoint; train it first")
    weights: dict[str, Tensor] = saved["model"]
    return weights
