"""Attention over the paged KV in which each row names the slots that it sees, split over positions (flash decoding).

    out = sum_l softmax_l(cap(scale q k_l)) v_l  over the visible positions l of the row,  cap(x) = c tanh(x / c)

Shape letters: Q query heads = H KV heads times G, T packed rows, S slots of the pool, L positions, P splits, D head
size (values may have another than keys).

`split_kernel`, grid [T, H, P]: one program reads `SPLIT` positions of one row in tiles of `TILE` and merges the tiles
by the online softmax; the G query heads of a KV head share what it reads. `merge_kernel`, grid [T, H], merges the
splits in order of positions. Tiles and splits begin at fixed positions and only those that the row reaches are visited,
so a row's bits depend on its own query and keys alone: not on other rows, their number or lengths, or the width of
`slots_TL`. Keys and values are gathered into registers; scores are never in memory.

Precision: float32 throughout. Both products are `tl.dot` with 'ieee': no tf32, whose 10 bits would show in float32
models. A bfloat16 or float16 query and key of one dtype are multiplied as they are, on tensor cores, which is exact in
float32, and scaled afterwards. G is padded to the 16 rows that `tl.dot` needs, D to a power of two.
"""
# A kernel's arguments have types only when it is compiled for them.
# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 64
SPLIT = 256
"""A multiple of `TILE`. Part of the numerics: another value gives other bits."""
MIN_DOT_ROWS = 16
SPLIT_WARPS = 4
MERGE_WARPS = 4
NO_WINDOW = 1 << 30


@triton.jit
def split_kernel(
    query,
    keys,
    values,
    slots,
    lengths,
    partial_outputs,
    partial_peaks,
    partial_totals,
    query_head_stride,
    query_row_stride,
    key_head_stride,
    key_slot_stride,
    value_head_stride,
    value_slot_stride,
    slots_row_stride,
    scale,
    window,
    softcap,
    GROUP: tl.constexpr,
    KEY_SIZE: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    PADDED_GROUP: tl.constexpr,
    PADDED_KEY_SIZE: tl.constexpr,
    PADDED_VALUE_SIZE: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    KEEP_HALVES: tl.constexpr,
    TILE: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """Grid [T, H, P]; `partial_outputs` [T, Q, P, D], `partial_peaks` and `partial_totals` [T, Q, P]."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    split = tl.program_id(2)
    length = tl.load(lengths + row).to(tl.int32)
    first_visible = tl.maximum(length - window, 0)
    begin = tl.maximum(split * SPLIT, first_visible // TILE * TILE)
    end = tl.minimum((split + 1) * SPLIT, length)

    group = tl.arange(0, PADDED_GROUP)
    key_dims = tl.arange(0, PADDED_KEY_SIZE)
    value_dims = tl.arange(0, PADDED_VALUE_SIZE)
    query_heads = head * GROUP + group
    query_rows = tl.load(
        query + query_heads[:, None] * query_head_stride + row * query_row_stride + key_dims[None, :],
        mask=(group[:, None] < GROUP) & (key_dims[None, :] < KEY_SIZE),
        other=0.0,
    )
    if not KEEP_HALVES:
        query_rows = query_rows.to(tl.float32)
    peak = tl.full((PADDED_GROUP,), float("-inf"), tl.float32)
    total = tl.zeros((PADDED_GROUP,), tl.float32)
    merged = tl.zeros((PADDED_GROUP, PADDED_VALUE_SIZE), tl.float32)
    for first in range(begin, end, TILE):
        positions = first + tl.arange(0, TILE)
        is_visible = (positions >= first_visible) & (positions < length)
        slot = tl.load(slots + row * slots_row_stride + positions, mask=is_visible, other=0).to(tl.int64)
        # Masked, because what an invisible slot holds may be NaN.
        tile_keys = tl.load(
            keys + head * key_head_stride + slot[:, None] * key_slot_stride + key_dims[None, :],
            mask=is_visible[:, None] & (key_dims[None, :] < KEY_SIZE),
            other=0.0,
        )
        tile_values = tl.load(
            values + head * value_head_stride + slot[:, None] * value_slot_stride + value_dims[None, :],
            mask=is_visible[:, None] & (value_dims[None, :] < VALUE_SIZE),
            other=0.0,
        ).to(tl.float32)
        if not KEEP_HALVES:
            tile_keys = tile_keys.to(tl.float32)
        scores = tl.dot(query_rows, tl.trans(tile_keys), input_precision="ieee") * scale
        if HAS_SOFTCAP:
            # tanh(x) = 1 - 2 / (exp(2x) + 1); beyond 40 it is 1 in float32, and exp would overflow.
            doubled = tl.minimum(scores * (2.0 / softcap), 80.0)
            scores = softcap - 2.0 * softcap / (tl.exp(doubled) + 1.0)
        scores = tl.where(is_visible[None, :], scores, float("-inf"))
        # Each visited tile has a visible position, so the peak is finite from here on.
        new_peak = tl.maximum(peak, tl.max(scores, 1))
        weights = tl.exp(scores - new_peak[:, None])
        keep = tl.exp(peak - new_peak)
        total = total * keep + tl.sum(weights, 1)
        merged = merged * keep[:, None] + tl.dot(weights, tile_values, input_precision="ieee")
        peak = new_peak
    places = (row * tl.num_programs(1) * GROUP + query_heads) * tl.num_programs(2) + split
    tl.store(partial_peaks + places, peak, mask=group < GROUP)
    tl.store(partial_totals + places, total, mask=group < GROUP)
    tl.store(
        partial_outputs + places[:, None] * VALUE_SIZE + value_dims[None, :],
        merged,
        mask=(group[:, None] < GROUP) & (value_dims[None, :] < VALUE_SIZE),
    )


@triton.jit
def merge_kernel(
    partial_outputs,
    partial_peaks,
    partial_totals,
    lengths,
    output,
    num_splits,
    window,
    GROUP: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    PADDED_GROUP: tl.constexpr,
    PADDED_VALUE_SIZE: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """Grid [T, H]."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    length = tl.load(lengths + row).to(tl.int32)
    group = tl.arange(0, PADDED_GROUP)
    value_dims = tl.arange(0, PADDED_VALUE_SIZE)
    is_head = group < GROUP
    is_output = is_head[:, None] & (value_dims[None, :] < VALUE_SIZE)
    query_heads = row * tl.num_programs(1) * GROUP + head * GROUP + group
    peak = tl.full((PADDED_GROUP,), float("-inf"), tl.float32)
    total = tl.zeros((PADDED_GROUP,), tl.float32)
    merged = tl.zeros((PADDED_GROUP, PADDED_VALUE_SIZE), tl.float32)
    for split in range(tl.maximum(length - window, 0) // SPLIT, (length + SPLIT - 1) // SPLIT):
        places = query_heads * num_splits + split
        split_peak = tl.load(partial_peaks + places, mask=is_head, other=0.0)
        split_total = tl.load(partial_totals + places, mask=is_head, other=1.0)
        split_output = tl.load(
            partial_outputs + places[:, None] * VALUE_SIZE + value_dims[None, :], mask=is_output, other=0.0
        )
        new_peak = tl.maximum(peak, split_peak)
        keep, add = tl.exp(peak - new_peak), tl.exp(split_peak - new_peak)
        total = total * keep + split_total * add
        merged = merged * keep[:, None] + split_output * add[:, None]
        peak = new_peak
    outputs = output + query_heads[:, None] * VALUE_SIZE + value_dims[None, :]
    tl.store(outputs, merged / total[:, None], mask=is_output)


def tree_attention(
    query_QTD: Tensor,
    keys_HSD: Tensor,
    values_HSD: Tensor,
    slots_TL: Tensor,
    lengths_T: Tensor,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attention of all rows, float32 [T, Q, D]; arguments as of the reference, their last dimensions contiguous."""
    num_query_heads, num_rows, key_size = query_QTD.shape
    num_heads, _, value_size = values_HSD.shape
    group = num_query_heads // num_heads
    num_splits = triton.cdiv(slots_TL.shape[1], SPLIT)
    device = query_QTD.device
    output_TQD = torch.empty(num_rows, num_query_heads, value_size, dtype=torch.float32, device=device)
    if num_rows == 0:
        return output_TQD
    partial_outputs = torch.empty(num_rows, num_query_heads, num_splits, value_size, dtype=torch.float32, device=device)
    peaks_TQP, totals_TQP = torch.empty(2, num_rows, num_query_heads, num_splits, dtype=torch.float32, device=device)
    padded_group = max(MIN_DOT_ROWS, triton.next_power_of_2(group))
    padded_value_size = max(MIN_DOT_ROWS, triton.next_power_of_2(value_size))
    window = NO_WINDOW if window is None else window
    # Not in the interpreter, which multiplies the bits of bfloat16 as if they were integers.
    keep_halves = query_QTD.dtype == keys_HSD.dtype != torch.float32 and device.type == "cuda"
    split_kernel[(num_rows, num_heads, num_splits)](
        query_QTD,
        keys_HSD,
        values_HSD,
        slots_TL,
        lengths_T,
        partial_outputs,
        peaks_TQP,
        totals_TQP,
        *query_QTD.stride()[:2],
        *keys_HSD.stride()[:2],
        *values_HSD.stride()[:2],
        slots_TL.stride(0),
        scale,
        window,
        1.0 if softcap is None else softcap,
        GROUP=group,
        KEY_SIZE=key_size,
        VALUE_SIZE=value_size,
        PADDED_GROUP=padded_group,
        PADDED_KEY_SIZE=max(MIN_DOT_ROWS, triton.next_power_of_2(key_size)),
        PADDED_VALUE_SIZE=padded_value_size,
        HAS_SOFTCAP=softcap is not None,
        KEEP_HALVES=keep_halves,
        TILE=TILE,
        SPLIT=SPLIT,
        num_warps=SPLIT_WARPS,
    )
    merge_kernel[(num_rows, num_heads)](
        partial_outputs,
        peaks_TQP,
        totals_TQP,
        lengths_T,
        output_TQD,
        num_splits,
        window,
        GROUP=group,
        VALUE_SIZE=value_size,
        PADDED_GROUP=padded_group,
        PADDED_VALUE_SIZE=padded_value_size,
        SPLIT=SPLIT,
        num_warps=MERGE_WARPS,
    )
    return output_TQD
