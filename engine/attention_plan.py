"""Which tiles of keys each row of a step reads, laid out so that one call serves many rows.

A *unit* is a block of rows of one sequence and one tile of `TILE` positions of its keys. Units of equal block size are
one batched call. Rows that continue a sequence in a chain (prefill, chains, single tokens) read the same index list,
so they share units. The nodes of a branching tree share the tiles that lie wholly before the first of them; from there
on each has units of its own, because a node reads its ancestors in depth order, as it would if they were a chain.

What the units give is merged row by row, in tile order (`TiledAttention`).

Shape letters: T packed rows, U units, M rows of a block, P positions of a tile, N tiles of a row (padded).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TILE = 128
"""Positions reduced together. Part of the engine's identity: another value gives other bits."""
MEDIUM_BLOCK, LARGE_BLOCK = 8, 32
"""Rows of a block; a lone row has a block of its own."""
NO_PARTIAL = -1

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RowsOfSequence:
    """The rows of one sequence in a step, as the plan needs them.

    Row i sees `lengths[i]` positions. `slots` holds the slots of all positions, then of the tree's nodes in order. If
    the tree branches, all rows read the first `num_shared` of them, and then row i reads `own_slots[i]`.
    """

    first_row: int
    lengths: Ints
    slots: Ints
    num_shared: int
    own_slots: Ints | None

    @property
    def num_rows(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True, slots=True)
class UnitBlock:
    """All units of one block size, as tensors."""

    block: int
    rows_Y: Tensor
    """Packed row of each row of each unit, [U * M]; a block that is not full repeats its first row."""
    slots_Z: Tensor
    """Slots of each unit's keys, [U * P]; those that no row sees are the trash page's blank one."""
    num_units: int
    lengths_UM: Ints
    firsts_U: Ints
    """First position of the tile."""
    is_every_row: bool
    """Whether the units are the packed rows, one each, in order."""

    def mask(self, window: int | None) -> Tensor:
        """Additive mask [U, 1, M, P]: 0 where the row sees the position, else -inf."""
        positions_U1P = (self.firsts_U[:, None] + np.arange(TILE))[:, None]
        lengths_UM1 = self.lengths_UM[:, :, None]
        visible_UMP = positions_U1P < lengths_UM1
        if window is not None:
            visible_UMP &= positions_U1P >= lengths_UM1 - window
        return torch.from_numpy(np.where(visible_UMP, np.float32(0), np.float32(-np.inf)))[:, None]


@dataclass(frozen=True, slots=True)
class MergeGroup:
    """Rows with about as many tiles, whose partial results are merged in one call."""

    rows_R: Tensor | None
    """Their packed rows; None: all rows of the step, in order."""
    partials_X: Tensor
    """Index of each row's partial results among all, [R * N]."""
    num_tiles: int
    lengths_R: Ints

    def mask(self, window: int | None) -> Tensor:
        """Additive mask [R, N, 1]: 0 where the row sees some position of the tile, else -inf."""
        firsts_N = np.arange(self.num_tiles) * TILE
        visible_RN = firsts_N < self.lengths_R[:, None]
        if window is not None:
            visible_RN &= firsts_N + TILE > self.lengths_R[:, None] - window
        return torch.from_numpy(np.where(visible_RN, np.float32(0), np.float32(-np.inf)))[..., None]


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """The units of a step and how they merge."""

    blocks: tuple[UnitBlock, ...]
    merges: tuple[MergeGroup, ...]
    num_rows: int


def plan_attention(sequences: Sequence[RowsOfSequence], num_rows: int, lone_block: int) -> AttentionPlan:
    """Lay out a step of `num_rows` packed rows. `lone_block` is the block size of a lone row (see `TiledAttention`)."""
    units = {size: _Units(size) for size in (lone_block, MEDIUM_BLOCK, LARGE_BLOCK)}
    lengths = np.ones(num_rows, dtype=np.int64)
    for rows in sequences:
        lengths[rows.first_row : rows.first_row + rows.num_rows] = rows.lengths
        if rows.own_slots is None:
            _add_shared(units, rows, lone_block, rows.num_shared)
        else:
            _add_shared(units, rows, lone_block, rows.num_shared // TILE * TILE)
            _add_own(units[lone_block], rows)
    partials = np.full((num_rows, -(-int(lengths.max()) // TILE)), NO_PARTIAL, dtype=np.int64)
    blocks = []
    offset = 0
    for of_size in units.values():
        if of_size.rows:
            block = of_size.as_tensors(lengths)
            indices_UM = np.arange(offset, offset + block.num_units * block.block).reshape(-1, block.block)
            partials[block.rows_Y.numpy().reshape(-1, block.block), block.firsts_U[:, None] // TILE] = indices_UM
            offset += indices_UM.size
            blocks.append(block)
    # A tile that a row does not reach weighs nothing, whatever stands for it; but of another sequence it might be NaN.
    own_T1 = np.maximum(partials[:, :1], 0)
    partials = np.where(partials == NO_PARTIAL, own_T1, partials)
    return AttentionPlan(tuple(blocks), _merges(partials, lengths), num_rows)


def _add_shared(units: dict[int, _Units], rows: RowsOfSequence, lone_block: int, num_shared: int) -> None:
    """Units of all rows of a sequence, block by block, over the first positions."""
    for start in range(0, rows.num_rows, LARGE_BLOCK):
        count = min(rows.num_rows - start, LARGE_BLOCK)
        size = lone_block if count == 1 else MEDIUM_BLOCK if count <= MEDIUM_BLOCK else LARGE_BLOCK
        num_tiles = -(-min(num_shared, int(rows.lengths[start + count - 1])) // TILE)
        if num_tiles:
            members_M = np.full(size, rows.first_row + start)
            members_M[:count] += np.arange(count)
            units[size].add(np.broadcast_to(members_M, (num_tiles, size)), 0, _tiles(rows.slots[None], num_tiles))


def _add_own(units: _Units, rows: RowsOfSequence) -> None:
    """Units of each row of a branching tree from the first tile on that its nodes do not share."""
    assert rows.own_slots is not None
    num_common = rows.num_shared // TILE
    rest = np.broadcast_to(rows.slots[num_common * TILE : rows.num_shared], (rows.num_rows, rows.num_shared % TILE))
    num_tiles = -(-int(rows.lengths.max()) // TILE) - num_common
    members_N = np.repeat(np.arange(rows.first_row, rows.first_row + rows.num_rows), num_tiles)
    members_NM = np.broadcast_to(members_N[:, None], (len(members_N), units.block))
    units.add(members_NM, num_common, _tiles(np.concatenate((rest, rows.own_slots), axis=1), num_tiles))


def _tiles(slots: Ints, num_tiles: int) -> Ints:
    """The first slots of some rows as tiles [rows, num_tiles, P], filled up with the trash page's blank slot."""
    count = min(num_tiles * TILE, slots.shape[1])
    tiles = np.zeros((len(slots), num_tiles * TILE), dtype=np.int64)
    tiles[:, :count] = slots[:, :count]
    return tiles.reshape(len(slots), num_tiles, TILE)


@dataclass(slots=True)
class _Units:
    """Collects the units of one block size."""

    block: int
    rows: list[Ints] = field(default_factory=list)
    slots: list[Ints] = field(default_factory=list)
    firsts: list[Ints] = field(default_factory=list)

    def add(self, members_UM: Ints, first_tile: int, slots: Ints) -> None:
        """Units over consecutive tiles from the first on; slots [*, tiles, P]."""
        firsts = np.arange(first_tile, first_tile + slots.shape[1]) * TILE
        self.rows.append(members_UM)
        self.slots.append(slots.reshape(-1, TILE))
        self.firsts += [firsts] * len(slots)

    def as_tensors(self, lengths: Ints) -> UnitBlock:
        """`lengths` are those of all packed rows."""
        rows_UM = np.concatenate(self.rows)
        return UnitBlock(
            block=self.block,
            rows_Y=torch.from_numpy(rows_UM.reshape(-1)),
            slots_Z=torch.from_numpy(np.concatenate(self.slots).reshape(-1)),
            num_units=len(rows_UM),
            lengths_UM=lengths[rows_UM],
            firsts_U=np.concatenate(self.firsts),
            is_every_row=self.block == 1 and np.array_equal(rows_UM[:, 0], np.arange(len(lengths))),
        )


def _merges(partials: Ints, lengths: Ints) -> tuple[MergeGroup, ...]:
    """Rows grouped by the number of their tiles, rounded up to a power of two."""
    if partials.shape[1] == 1:
        return (MergeGroup(None, torch.from_numpy(partials.reshape(-1)), 1, lengths),)
    buckets = np.ceil(np.log2(-(-lengths // TILE))).astype(np.int64)
    groups = []
    found = np.unique(buckets)
    for bucket in found:
        members = np.flatnonzero(buckets == bucket)
        num_tiles = min(1 << int(bucket), partials.shape[1])
        groups.append(
            MergeGroup(
                rows_R=None if len(found) == 1 else torch.from_numpy(members),
                partials_X=torch.from_numpy(partials[members, :num_tiles].reshape(-1)),
                num_tiles=num_tiles,
                lengths_R=lengths[members],
            )
        )
    return tuple(groups)
