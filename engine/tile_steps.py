"""The tensor calls of `TiledAttention`, in the subset of Python that TorchScript compiles (see `engine.lean_decoder`).

Shape letters: T packed rows, U units, M rows of a block, H KV heads, G query heads a KV head, Q = M * G, D head size,
P positions of a tile, Z = U * P, Y = U * M, E elements of a slot or of all heads, X partial results, R rows of a merge,
N tiles of a row, C = G * H.
"""

# TorchScript does not resolve postponed annotations inside of named tuples: no `from __future__ import annotations`.

from typing import NamedTuple

import torch
from torch import Tensor


class UnitInputs(NamedTuple):
    """One call of the kernel: all units of one block size."""

    rows_Y: Tensor | None
    """None: the packed rows, in order."""
    slots_Z: Tensor
    mask_U1QP: Tensor
    num_units: int


class MergeInputs(NamedTuple):
    """One merge of partial results."""

    rows_R: Tensor | None
    """None: all rows of the step, in order."""
    partials_X: Tensor | None
    """None: the partial results, in order."""
    num_tiles: int
    mask_RN1: Tensor | None
    """None: there is one tile, which holds each row's own position."""


class TileInputs(NamedTuple):
    """A step's plan with the masks of one kind of layer, as `attend_tiles` takes it."""

    units: list[UnitInputs]
    merges: list[MergeInputs]
    num_rows: int


def attend_tiles(
    query_TE: Tensor, slots_SE: Tensor, inputs: TileInputs, num_heads: int, head_size: int, scale: float
) -> Tensor:
    """Attention of all rows over one layer's pool; [T, H * G * D] as the query, whose columns are [H, G, D]."""
    outs: list[Tensor] = []
    lses: list[Tensor] = []
    for units in inputs.units:
        out_XGHD, lse_XGH = _partials(query_TE, slots_SE, units, num_heads, head_size, scale)
        outs.append(out_XGHD)
        lses.append(lse_XGH)
    all_XGHD = outs[0] if len(outs) == 1 else torch.cat(outs)
    all_XGH = lses[0] if len(lses) == 1 else torch.cat(lses)
    merged = [_merged(all_XGHD, all_XGH, merge) for merge in inputs.merges]
    out_TGHD = merged[0]
    if inputs.merges[0].rows_R is not None:
        out_TGHD = query_TE.new_empty([inputs.num_rows, out_TGHD.shape[1], num_heads, head_size])
        for index, merge in enumerate(inputs.merges):
            rows_R = merge.rows_R
            assert rows_R is not None
            out_TGHD.index_copy_(0, rows_R, merged[index].to(query_TE.dtype))
    return out_TGHD.transpose(1, 2).reshape(query_TE.shape).to(query_TE.dtype)


def _partials(
    query_TE: Tensor, slots_SE: Tensor, units: UnitInputs, num_heads: int, head_size: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Per row of each unit: values [U * M, G, H, D] and log normalisers [U * M, G, H]."""
    rows_Y = units.rows_Y
    query_YE = query_TE if rows_Y is None else query_TE.index_select(0, rows_Y)
    group = query_TE.shape[1] // (num_heads * head_size)
    query_UMHGD = query_YE.view(units.num_units, -1, num_heads, group, head_size)
    query_UHQD = query_UMHGD.transpose(1, 2).reshape(units.num_units, num_heads, -1, head_size)
    kv_PE = slots_SE.index_select(0, units.slots_Z)
    kv_UHPD = kv_PE.view(units.num_units, -1, 2 * num_heads, head_size).transpose(1, 2)
    out_UHQD, lse_UHQ = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query_UHQD,
        kv_UHPD[:, :num_heads],
        kv_UHPD[:, num_heads:],
        attn_mask=units.mask_U1QP.expand(-1, num_heads, -1, -1),
        scale=scale,
    )
    # The kernel writes rows before heads, so these are views.
    out_XGHD = out_UHQD.transpose(1, 2).reshape(-1, group, num_heads, head_size)
    lse_XGH = lse_UHQ.transpose(1, 2).reshape(-1, group, num_heads)
    return out_XGHD, lse_XGH


def _merged(all_XGHD: Tensor, all_XGH: Tensor, merge: MergeInputs) -> Tensor:
    """[R, G, H, D], float32 where several partial results make a row."""
    partials_X, mask_RN1 = merge.partials_X, merge.mask_RN1
    out_XGHD = all_XGHD if partials_X is None else all_XGHD.index_select(0, partials_X)
    if mask_RN1 is None:
        return out_XGHD
    lse_XGH = all_XGH if partials_X is None else all_XGH.index_select(0, partials_X)
    num_groups, num_heads, head_size = out_XGHD.shape[1], out_XGHD.shape[2], out_XGHD.shape[3]
    out_RNGHD = out_XGHD.view(-1, merge.num_tiles, num_groups, num_heads, head_size)
    lse_RNC = lse_XGH.reshape(-1, merge.num_tiles, num_groups * num_heads) + mask_RN1
    weights_RNC = (lse_RNC - lse_RNC.amax(1, keepdim=True)).exp_()
    weights_RNC /= weights_RNC.sum(1, keepdim=True)
    weights_RNGH1 = weights_RNC.view(-1, merge.num_tiles, num_groups, num_heads, 1)
    return (out_RNGHD * weights_RNGH1).sum(1)
