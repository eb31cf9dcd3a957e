"""Pack the sequences of a step into rows: prefill chunks, single tokens, chains and trees alike.

Shape letters: T packed rows, L index list, B sequences.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from engine.attention import TILE, StepContext
from engine.kv_cache import KVCache
from engine.pages import PageId
from engine.tree import TokenTree

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WorkItem:
    """What one sequence does in a step: read `token_ids` after `num_cached` tokens, then the nodes of `tree`.

    The tree hangs off the last of `token_ids`. `wants_logits` is False for a prefill chunk that others follow.
    """

    token_ids: SequenceOf[int]
    num_cached: int
    pages: SequenceOf[PageId]
    tree: TokenTree
    wants_logits: bool

    @property
    def num_rows(self) -> int:
        return len(self.token_ids) + len(self.tree)


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """One step as tensors. `logit_rows` names the rows whose logits are wanted, sequence by sequence, root first."""

    ids_T: torch.Tensor
    positions_T: torch.Tensor
    context: StepContext
    logit_rows: torch.Tensor
    num_rows: int
    """Rows before padding."""
    num_logit_rows: int
    """Logit rows before padding."""


def slots_of(pages: SequenceOf[PageId], page_size: int, num_slots: int) -> Ints:
    """Slots of positions 0 .. num_slots of a sequence."""
    firsts = np.asarray(pages, dtype=np.int64) * page_size
    return (firsts[:, None] + np.arange(page_size)).reshape(-1)[:num_slots]


def paths_from_root(tree: TokenTree) -> Ints:
    """Nodes on the way from the root to each node, itself included, [nodes, max depth], padded with -1.

    paths_from_root(parents [-1, 0, 0]) -> [[0, -1], [0, 1], [0, 2]]
    """
    depths = tree.depths()
    paths = np.full((len(depths), max(depths, default=0)), -1, dtype=np.int64)
    for node, parent in enumerate(tree.parents):
        if parent >= 0:
            paths[node] = paths[parent]
        paths[node, depths[node] - 1] = node
    return paths


def pack(items: SequenceOf[WorkItem], cache: KVCache, min_rows: int, device: torch.device) -> PackedBatch:
    """Build one step. Rows are padded to at least `min_rows`; padding rows see only the trash page."""
    num_rows = sum(item.num_rows for item in items)
    padded = max(num_rows, min_rows)
    longest = max((item.num_cached + item.num_rows for item in items), default=1)
    width = -(-longest // TILE) * TILE
    ids = np.zeros(padded, dtype=np.int64)
    positions = np.zeros(padded, dtype=np.int64)
    write_slots = np.zeros(padded, dtype=np.int64)
    lengths = np.ones(padded, dtype=np.int64)
    slots = np.zeros((padded, width), dtype=np.int64)
    logit_rows: list[int] = []
    row = 0
    for item in items:
        end = row + item.num_rows
        _fill(
            item,
            cache.page_size,
            ids[row:end],
            positions[row:end],
            write_slots[row:end],
            lengths[row:end],
            slots[row:end],
        )
        if item.wants_logits:
            logit_rows += range(row + len(item.token_ids) - 1, end)
        row = end
    num_logit_rows = len(logit_rows)
    logit_rows += [0] * (min_rows - num_logit_rows)

    def tensor(values: Ints | list[int]) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.int64).to(device)

    context = StepContext(cache, tensor(write_slots), tensor(slots), tensor(lengths))
    return PackedBatch(tensor(ids), tensor(positions), context, tensor(logit_rows), num_rows, num_logit_rows)


def _fill(
    item: WorkItem, page_size: int, ids: Ints, positions: Ints, write_slots: Ints, lengths: Ints, slots: Ints
) -> None:
    """Write the rows of one sequence into views of the step's arrays."""
    num_tokens, num_nodes, start = len(item.token_ids), len(item.tree), item.num_cached
    own = slots_of(item.pages, page_size, start + num_tokens + num_nodes)
    ids[:num_tokens] = item.token_ids
    positions[:num_tokens] = np.arange(start, start + num_tokens)
    # Later positions are there too, but `lengths` hides them.
    slots[:, : start + num_tokens] = own[: start + num_tokens]
    if num_nodes:
        root = start + num_tokens - 1
        paths = paths_from_root(item.tree)
        ids[num_tokens:] = item.tree.token_ids
        positions[num_tokens:] = root + np.asarray(item.tree.depths())
        path_slots = own[root + 1 + np.maximum(paths, 0)]
        slots[num_tokens:, root + 1 : root + 1 + paths.shape[1]] = np.where(paths >= 0, path_slots, 0)
    write_slots[:] = own[start:]
    lengths[:] = positions + 1
