"""Attention on CPUs: torch's flash kernel over one tile of keys at a time, then a merge in tile order.

The kernel gives for each row and tile the softmax-weighted values and the logarithm of the normaliser:

    out = sum over tiles of  exp(lse_tile - m) * out_tile / sum over tiles of exp(lse_tile - m),   m = max lse_tile

A tile is a call of constant length, and the kernel computes each query row by itself as soon as there are a few, so a
row's result does not depend on which rows share its call; `find_lone_block` looks how many that takes. A tile that a
row does not reach weighs exactly zero.

Shape letters: T packed rows, U units, M rows of a block, H KV heads, G query heads a KV head, D head size,
P positions of a tile, E elements of a slot, X partial results, R rows of a merge, N tiles of a row.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from engine.attention_plan import LARGE_BLOCK, MEDIUM_BLOCK, TILE, AttentionPlan
from engine.kv_cache import LayerShape
from engine.tile_steps import MergeInputs, TileInputs, UnitInputs, attend_tiles

_NUM_PROBED = 8
_LONE_BLOCKS = (1, 2, 4, 8)


class TiledAttention:
    """The plan of one step; computes the attention of any layer of that step."""

    def __init__(self, plan: AttentionPlan) -> None:
        self._plan = plan
        self._inputs: dict[tuple[int, int | None, torch.dtype], TileInputs] = {}

    def attend(self, query_TE: Tensor, slots_SE: Tensor, shape: LayerShape, scale: float, window: int | None) -> Tensor:
        """Attention of all rows over one layer's pool; [T, H * G * D] as the query, whose columns are [H, G, D]."""
        group = query_TE.shape[1] // (shape.num_heads * shape.key_size)
        inputs = self.inputs(group, window, query_TE.dtype)
        return attend_tiles(query_TE, slots_SE, inputs, shape.num_heads, shape.key_size, scale)

    def inputs(self, group: int, window: int | None, dtype: torch.dtype) -> TileInputs:
        """What the layers of one group size and window read."""
        key = (group, window, dtype)
        if key not in self._inputs:
            self._inputs[key] = _inputs_of(self._plan, *key)
        return self._inputs[key]


def _inputs_of(plan: AttentionPlan, group: int, window: int | None, dtype: torch.dtype) -> TileInputs:
    units = [
        UnitInputs(
            rows_Y=None if block.is_every_row else block.rows_Y,
            slots_Z=block.slots_Z,
            mask_U1QP=block.mask(window).to(dtype).repeat_interleave(group, dim=2),
            num_units=block.num_units,
        )
        for block in plan.blocks
    ]
    is_in_order = len(plan.blocks) == 1 and plan.blocks[0].is_every_row
    merges = [
        MergeInputs(
            rows_R=merge.rows_R,
            partials_X=None if is_in_order else merge.partials_X,
            num_tiles=merge.num_tiles,
            mask_RN1=None if merge.num_tiles == 1 else merge.mask(window),
        )
        for merge in plan.merges
    ]
    return TileInputs(units, merges, plan.num_rows)


@lru_cache(maxsize=64)
def find_lone_block(dtype: torch.dtype, group: int, head_size: int) -> int | None:
    """The block size of a lone row: the fewest rows for which the kernel gives each row the bits of a large block.

    None if no small block does; then the reference computes the attention.
    """
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    query = random(_NUM_PROBED, 1, LARGE_BLOCK * group, head_size)
    keys, values = random(_NUM_PROBED, 1, TILE, head_size), random(_NUM_PROBED, 1, TILE, head_size)
    lengths = torch.randint(1, TILE + 1, (_NUM_PROBED, 1, LARGE_BLOCK * group, 1), generator=generator)
    mask = torch.zeros(_NUM_PROBED, 1, LARGE_BLOCK * group, TILE).masked_fill(torch.arange(TILE) >= lengths, -torch.inf)
    mask = mask.to(dtype)

    def rows(start: int, count: int) -> list[Tensor]:
        part = slice(start, start + count)
        return list(
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query[:, :, part].contiguous(), keys, values, attn_mask=mask[:, :, part]
            )
        )

    whole_out, whole_lse = rows(0, LARGE_BLOCK * group)

    def is_same(block: int) -> bool:
        count = block * group
        for start in range(0, LARGE_BLOCK * group, count):
            out, lse = rows(start, count)
            end = start + count
            if not (torch.equal(out, whole_out[:, :, start:end]) and torch.equal(lse, whole_lse[:, :, start:end])):
                return False
        return True

    if not is_same(MEDIUM_BLOCK):
        return None
    return next((block for block in _LONE_BLOCKS if is_same(block)), None)
