"""Tokenised prompt-and-answer examples and the batches made of them; the loss counts answers only.

Shape letters: B examples, T tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

IGNORED = -100
LENGTH_STEP = 4
"""Batches are padded to a multiple of this, so that few shapes occur."""


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and its answer; the answer ends with EOS."""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.answer_ids)


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded examples. Causal attention never looks at the padding, so there is no mask."""

    ids_BT: Tensor
    labels_BT: Tensor
    """The next token where it belongs to an answer, else `IGNORED`."""


def make_batch(examples: Sequence[Example]) -> Batch:
    """Pad and shift: the label of a position is the token after it."""
    longest = max(len(example) for example in examples) - 1
    width = -(-longest // LENGTH_STEP) * LENGTH_STEP
    ids = np.zeros((len(examples), width), dtype=np.int64)
    labels = np.full((len(examples), width), IGNORED, dtype=np.int64)
    for row, example in enumerate(examples):
        tokens = example.prompt_ids + example.answer_ids
        first = len(example.prompt_ids) - 1
        ids[row, : len(tokens) - 1] = tokens[:-1]
        labels[row, first : len(tokens) - 1] = example.answer_ids
    return Batch(torch.from_numpy(ids), torch.from_numpy(labels))


def groups_by_length(examples: Sequence[Example], tokens_per_batch: int, rng: random.Random) -> list[list[int]]:
    """Indices of all `examples` in groups of about one length, the groups in random order."""
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i]), rng.random()))
    groups: list[list[int]] = [[]]
    for index in order:
        if groups[-1] and len(examples[index]) * (len(groups[-1]) + 1) > tokens_per_batch:
            groups.append([])
        groups[-1].append(index)
    rng.shuffle(groups)
    return groups
