"""A linear layer whose rows do not depend on their number: tiles of one size, no splitting of the sum.

    out[r, o] = sum_i rows[r, i] weight[o, i] + bias[o]

Libraries choose tiles, and over how many programs they split the sum, by the number of rows; each choice adds in
another order. Here one program computes `TILE_ROWS` rows of a few outputs and adds all inputs in order into one
accumulator, for one row as for a thousand. The number of outputs chooses the width of a tile, the dtype its depth, and
nothing else does, so both may differ between layers but not between steps.

Grid [row tiles, output tiles]: programs that share weights are neighbours, so that the weights come from memory once.
64 rows are what one group of tensor-core instructions takes, and still less arithmetic than a step that is bound by
reading its weights has time for; rows that are not there are not read. The price is paid by steps of few outputs, whose
programs do not fill the device, and by those of many rows.

Precision: products of bfloat16 or float16 are exact in float32, sums are float32; float32 multiplies as 'ieee', without
tf32. Rounded once at the end.
"""
# A kernel's arguments have types only when it is compiled for them.
# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE_ROWS = 64
TILE_OUTPUTS = (64, 32, 16)
MIN_PROGRAMS = 128
"""About the number of multiprocessors: a tile is narrower where fewer programs would share the weights."""
TILE_INPUTS = {torch.float32: 32, torch.bfloat16: 128, torch.float16: 128}
NUM_WARPS, NUM_STAGES = 4, 4


@triton.jit
def fixed_linear_kernel(
    rows,
    weight,
    bias,
    output,
    num_rows,
    num_inputs,
    num_outputs,
    rows_stride,
    weight_stride,
    HAS_BIAS: tl.constexpr,
    KEEP_HALVES: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_OUTPUTS: tl.constexpr,
    TILE_INPUTS: tl.constexpr,
):
    """Grid [row tiles, output tiles]."""
    row = tl.program_id(0).to(tl.int64) * TILE_ROWS + tl.arange(0, TILE_ROWS)
    out = tl.program_id(1).to(tl.int64) * TILE_OUTPUTS + tl.arange(0, TILE_OUTPUTS)
    is_row = row < num_rows
    is_output = out < num_outputs
    total = tl.zeros((TILE_ROWS, TILE_OUTPUTS), tl.float32)
    for first in range(0, num_inputs, TILE_INPUTS):
        inputs = first + tl.arange(0, TILE_INPUTS)
        is_input = inputs < num_inputs
        left = tl.load(
            rows + row[:, None] * rows_stride + inputs[None, :], mask=is_row[:, None] & is_input[None, :], other=0.0
        )
        right = tl.load(
            weight + out[None, :] * weight_stride + inputs[:, None],
            mask=is_output[None, :] & is_input[:, None],
            other=0.0,
        )
        if not KEEP_HALVES:
            left = left.to(tl.float32)
            right = right.to(tl.float32)
        total = tl.dot(left, right, total, input_precision="ieee")
    if HAS_BIAS:
        total += tl.load(bias + out, mask=is_output, other=0.0).to(tl.float32)[None, :]
    places = output + row[:, None] * num_outputs + out[None, :]
    tl.store(places, total.to(output.dtype.element_ty), mask=is_row[:, None] & is_output[None, :])


def fixed_linear(rows_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """`rows_RI @ weight_OI.T + bias_O` [R, O]; arguments as of the reference, their last dimensions contiguous."""
    num_rows, num_inputs = rows_RI.shape
    num_outputs = weight_OI.shape[0]
    output_RO = torch.empty(num_rows, num_outputs, dtype=rows_RI.dtype, device=rows_RI.device)
    if num_rows == 0:
        return output_RO
    tile_outputs = outputs_of_tile(num_outputs)
    # Not in the interpreter, which multiplies the bits of bfloat16 as if they were integers.
    keep_halves = rows_RI.dtype != torch.float32 and rows_RI.device.type == "cuda"
    fixed_linear_kernel[(triton.cdiv(num_rows, TILE_ROWS), triton.cdiv(num_outputs, tile_outputs))](
        rows_RI,
        weight_OI,
        rows_RI if bias_O is None else bias_O,
        output_RO,
        num_rows,
        num_inputs,
        num_outputs,
        rows_RI.stride(0),
        weight_OI.stride(0),
        HAS_BIAS=bias_O is not None,
        KEEP_HALVES=keep_halves,
        TILE_ROWS=TILE_ROWS,
        TILE_OUTPUTS=tile_outputs,
        TILE_INPUTS=TILE_INPUTS[rows_RI.dtype],
        num_warps=NUM_WARPS,
        num_stages=NUM_STAGES,
    )
    return output_RO


def outputs_of_tile(num_outputs: int) -> int:
    """The widest tile that still gives every multiprocessor a part of the weights, else the narrowest."""
    wide_enough = (tile for tile in TILE_OUTPUTS if num_outputs >= tile * MIN_PROGRAMS)
    return next(wide_enough, TILE_OUTPUTS[-1])
