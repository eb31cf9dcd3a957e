"""Pack the sequences of a step into rows: prefill chunks, single tokens, chains and trees alike.

Shape letters: T packed rows, L index list.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np
import torch

from engine.attention import IndexLists, StepContext
from engine.attention_plan import TILE, Ints, RowsOfSequence, plan_attention
from engine.kv_cache import KVCache
from engine.pages import PageId, trash_slot
from engine.tiled_attention import TiledAttention
from engine.tree import TokenTree


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


def pack(
    items: SequenceOf[WorkItem], cache: KVCache, min_rows: int, lone_block: int | None, device: torch.device
) -> PackedBatch:
    """Build one step. Rows are padded to at least `min_rows`; padding rows see and write only the trash page.

    `lone_block` is for `TiledAttention`; None: the step carries index lists instead.
    """
    num_rows = sum(item.num_rows for item in items)
    padded = max(num_rows, min_rows)
    ids, positions, write_slots = np.zeros((3, padded), dtype=np.int64)
    write_slots[:] = trash_slot(cache.page_size)
    sequences = write_rows(items, cache.page_size, ids, positions, write_slots)
    logit_rows: list[int] = []
    for item, rows in zip(items, sequences, strict=True):
        if item.wants_logits:
            logit_rows += range(rows.first_row + len(item.token_ids) - 1, rows.first_row + rows.num_rows)
    num_logit_rows = len(logit_rows)
    logit_rows += [0] * (min_rows - num_logit_rows)
    reads: TiledAttention | IndexLists
    if lone_block is None:
        slots_TL = np.zeros((padded, -(-int(positions.max() + 1) // TILE) * TILE), dtype=np.int64)
        write_index_lists(sequences, slots_TL)
        reads = IndexLists(torch.from_numpy(slots_TL).to(device), torch.from_numpy(positions + 1).to(device))
    else:
        reads = TiledAttention(plan_attention(sequences, padded, lone_block))
    return PackedBatch(
        ids_T=torch.from_numpy(ids).to(device),
        positions_T=torch.from_numpy(positions).to(device),
        context=StepContext(cache, torch.from_numpy(write_slots).to(device), reads),
        logit_rows=torch.tensor(logit_rows, device=device),
        num_rows=num_rows,
        num_logit_rows=num_logit_rows,
    )


def write_rows(
    items: SequenceOf[WorkItem], page_size: int, ids_T: Ints, positions_T: Ints, write_slots_T: Ints
) -> list[RowsOfSequence]:
    """What the rows read and where they write, item by item; later rows stay as they are."""
    sequences: list[RowsOfSequence] = []
    row = 0
    for item in items:
        end = row + item.num_rows
        rows = _rows_of(item, page_size, row)
        ids_T[row:end] = (*item.token_ids, *item.tree.token_ids)
        positions_T[row:end] = rows.lengths - 1
        write_slots_T[row:end] = rows.slots[item.num_cached :]
        sequences.append(rows)
        row = end
    return sequences


def _rows_of(item: WorkItem, page_size: int, first_row: int) -> RowsOfSequence:
    """Which keys the rows of one sequence read."""
    num_tokens, tree, start = len(item.token_ids), item.tree, item.num_cached
    slots = slots_of(item.pages, page_size, start + item.num_rows)
    if tree.is_chain:
        lengths = np.arange(start + 1, start + item.num_rows + 1)
        return RowsOfSequence(first_row, lengths, slots, start + item.num_rows, None)
    end = start + num_tokens
    paths = paths_from_root(tree)
    lengths = np.concatenate((np.arange(start + 1, end + 1), end + np.asarray(tree.depths())))
    own_slots = np.zeros((item.num_rows, num_tokens - 1 + paths.shape[1]), dtype=np.int64)
    own_slots[:, : num_tokens - 1] = slots[start + 1 : end]
    own_slots[num_tokens:, num_tokens - 1 :] = np.where(paths >= 0, slots[end + np.maximum(paths, 0)], 0)
    return RowsOfSequence(first_row, lengths, slots, start + 1, own_slots)


def write_index_lists(sequences: SequenceOf[RowsOfSequence], slots_TL: Ints) -> None:
    """The slots that each row reads, for `IndexLists`; what is not written is hidden by the rows' lengths."""
    for rows in sequences:
        own = slice(rows.first_row, rows.first_row + rows.num_rows)
        # Later positions are there too, but hidden.
        slots_TL[own, : rows.num_shared] = rows.slots[: rows.num_shared]
        if rows.own_slots is not None:
            slots_TL[own, rows.num_shared : rows.num_shared + rows.own_slots.shape[1]] = rows.own_slots
