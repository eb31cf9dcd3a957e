"""Move KV from slots to slots in all layers with one launch. P pools, N moves.

Pools are allocations of their own, so the kernel gets a table of their addresses and sizes (`KVPools`). One stacked
pool would need no table, but equal shapes in all layers. Rows are moved as integers, whatever their dtype.

Grid [P, most heads]: a program owns one head of one pool and moves all N rows of it, `MOVES` at a time: it loads, waits
until all its threads have loaded, then stores. Nobody else touches its rows, and no target is the source of a later
move, so what a later chunk loads is still there, and within a chunk every source is read before a target is written.
"""
# A kernel's arguments have types only when it is compiled for them.
# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from polydraft_kernels.kv_pools import POOL_FIELDS, KVPools

MOVES = 16
NUM_WARPS = 4
UNITS = {1: tl.int8, 2: tl.int16, 4: tl.int32, 8: tl.int64}
NUM_FIELDS: tl.constexpr = tl.constexpr(POOL_FIELDS)


@triton.jit
def compact_kernel(
    table, from_slots, to_slots, num_moves, UNIT: tl.constexpr, ROW_UNITS: tl.constexpr, MOVES: tl.constexpr
):
    """Grid [P, most heads]. UNIT is the type that rows are moved as; ROW_UNITS a power of two that holds any row."""
    fields = table + tl.program_id(0) * NUM_FIELDS
    head = tl.program_id(1).to(tl.int64)
    head_stride = tl.load(fields + 2)
    slot_stride = tl.load(fields + 3)
    units = tl.arange(0, ROW_UNITS)
    # A pool with fewer heads has no rows for the programs beyond.
    row_units = tl.where(head < tl.load(fields + 1), tl.load(fields + 4), 0)
    pool = tl.load(fields).to(tl.pointer_type(UNIT)) + head * head_stride
    for first in range(0, num_moves, MOVES):
        moves = first + tl.arange(0, MOVES)
        source = tl.load(from_slots + moves, mask=moves < num_moves, other=0)
        target = tl.load(to_slots + moves, mask=moves < num_moves, other=0)
        is_moved = (moves < num_moves)[:, None] & (units < row_units)[None, :]
        rows = tl.load(pool + source[:, None] * slot_stride + units[None, :], mask=is_moved)
        tl.debug_barrier()
        tl.store(pool + target[:, None] * slot_stride + units[None, :], rows, mask=is_moved)


def compact_kv(kv: KVPools, from_slots_N: Tensor, to_slots_N: Tensor) -> None:
    """Copy slots within every pool, in place; arguments as of the reference."""
    if from_slots_N.shape[0] == 0:
        return
    compact_kernel[(len(kv.pools), kv.max_heads)](
        kv.table_PF,
        from_slots_N,
        to_slots_N,
        from_slots_N.shape[0],
        UNIT=UNITS[kv.unit_bytes],
        ROW_UNITS=triton.next_power_of_2(kv.max_row_units),
        MOVES=MOVES,
        num_warps=NUM_WARPS,
    )
