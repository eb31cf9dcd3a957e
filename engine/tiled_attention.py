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

from engine.attention_plan import LARGE_BLOCK, MEDIUM_BLOCK, TILE, AttentionPlan, MergeGroup, UnitBlock
from engine.kv_cache import LayerShape

_NUM_PROBED = 8
_LONE_BLOCKS = (1, 2, 4, 8)


class TiledAttention:
    """The plan of one step with its masks; computes the attention of any layer of that step."""

    def __init__(self, plan: AttentionPlan) -> None:
        self._plan = plan
        self._unit_masks: dict[tuple[int, int, int | None], Tensor] = {}
        self._merge_masks: dict[tuple[int, int | None], Tensor] = {}

    def attend(self, query_TE: Tensor, slots_SE: Tensor, shape: LayerShape, scale: float, window: int | None) -> Tensor:
        """Attention of all rows over one layer's pool; [T, H * G * D] as the query, whose columns are [H, G, D]."""
        plan = self._plan
        if len(plan.blocks) == 1 and plan.blocks[0].is_every_row and window is None:
            out_UGHD, _ = self._partials(plan.blocks[0], query_TE, slots_SE, shape, scale, window)
            return out_UGHD.transpose(1, 2).reshape(query_TE.shape)
        partials = [self._partials(block, query_TE, slots_SE, shape, scale, window) for block in plan.blocks]
        out_XGHD, lse_XGH = partials[0] if len(partials) == 1 else map(torch.cat, zip(*partials, strict=True))
        merged = [self._merge(index, out_XGHD, lse_XGH, window) for index in range(len(plan.merges))]
        if plan.merges[0].rows_R is None:
            out_TGHD = merged[0]
        else:
            out_TGHD = merged[0].new_empty(plan.num_rows, *merged[0].shape[1:])
            for group, out_RGHD in zip(plan.merges, merged, strict=True):
                assert group.rows_R is not None
                out_TGHD.index_copy_(0, group.rows_R, out_RGHD)
        return out_TGHD.transpose(1, 2).reshape(query_TE.shape).to(query_TE.dtype)

    def _partials(
        self, block: UnitBlock, query_TE: Tensor, slots_SE: Tensor, shape: LayerShape, scale: float, window: int | None
    ) -> tuple[Tensor, Tensor]:
        """Per row of each unit: values [U * M, G, H, D] and log normalisers [U * M, G, H]."""
        num_units, num_heads, head_size = block.num_units, shape.num_heads, shape.key_size
        query_YE = query_TE if block.is_every_row else query_TE.index_select(0, block.rows_Y)
        query_UMHGD = query_YE.view(num_units, block.block, num_heads, -1, head_size)
        group = query_UMHGD.shape[3]
        query_UHQD = query_UMHGD.transpose(1, 2).reshape(num_units, num_heads, -1, head_size)
        kv_UHPD = slots_SE.index_select(0, block.slots_Z).view(num_units, TILE, -1, head_size).transpose(1, 2)
        out_UHQD, lse_UHQ = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query_UHQD,
            kv_UHPD[:, :num_heads],
            kv_UHPD[:, num_heads:],
            attn_mask=self._unit_mask(block, num_heads, group, window, query_TE.dtype),
            scale=scale,
        )
        # The kernel writes rows before heads, so these are views.
        out_XGHD = out_UHQD.transpose(1, 2).reshape(-1, group, num_heads, head_size)
        lse_XGH = lse_UHQ.transpose(1, 2).reshape(-1, group, num_heads)
        return out_XGHD, lse_XGH

    def _merge(self, index: int, out_XGHD: Tensor, lse_XGH: Tensor, window: int | None) -> Tensor:
        """[R, G, H, D], float32."""
        group = self._plan.merges[index]
        if group.num_tiles == 1 and window is None:
            return out_XGHD.index_select(0, group.partials_X).float()
        out_RNGHD = out_XGHD.index_select(0, group.partials_X).view(-1, group.num_tiles, *out_XGHD.shape[1:])
        lse_RNC = lse_XGH.index_select(0, group.partials_X).view(-1, group.num_tiles, lse_XGH[0].numel())
        lse_RNC += self._merge_mask(index, group, window)
        weights_RNC = (lse_RNC - lse_RNC.amax(1, keepdim=True)).exp_()
        weights_RNC /= weights_RNC.sum(1, keepdim=True)
        weights_RNGH1 = weights_RNC.view(*out_RNGHD.shape[:-1], 1)
        out_RGHD: Tensor = (out_RNGHD * weights_RNGH1).sum(1)
        return out_RGHD

    def _unit_mask(
        self, block: UnitBlock, num_heads: int, group: int, window: int | None, dtype: torch.dtype
    ) -> Tensor:
        key = (block.block, group, window)
        if key not in self._unit_masks:
            mask_U1MP = block.mask(window).to(dtype)
            self._unit_masks[key] = mask_U1MP.repeat_interleave(group, dim=2)
        mask_U1QP = self._unit_masks[key]
        return mask_U1QP.expand(-1, num_heads, -1, -1)

    def _merge_mask(self, index: int, group: MergeGroup, window: int | None) -> Tensor:
        if (index, window) not in self._merge_masks:
            self._merge_masks[index, window] = group.mask(window)
        return self._merge_masks[index, window]


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
