"""The target's choice at temperature 0: argmax of the logits. T rows, V vocabulary.

Grid: one program a row, which reads its logits once in blocks. Each place of a block keeps its own best value and id,
so that a row is reduced once and not at every block, and the blocks that come next are on their way meanwhile. Logits
are compared in float32, lowest id on ties, NaN as -inf.
"""
# A kernel's arguments have types only when it is compiled for them.
# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096
NUM_WARPS = 8
NUM_STAGES: tl.constexpr = tl.constexpr(4)
"""Blocks of a row that are in flight."""
NO_ID: tl.constexpr = tl.constexpr(2147483647)


@triton.jit
def block_argmax(values, ids):
    """Largest value of a block and the lowest id that has it."""
    best = tl.max(values, 0)
    return best, tl.min(tl.where(values == best, ids, NO_ID), 0)


@triton.jit
def greedy_kernel(logits, choices, vocab_size, row_stride, BLOCK: tl.constexpr):
    """Grid [T]."""
    row = tl.program_id(0).to(tl.int64)
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    choice = tl.zeros((BLOCK,), tl.int32)
    for first in tl.range(0, vocab_size, BLOCK, num_stages=NUM_STAGES):
        ids = first + tl.arange(0, BLOCK)
        values = tl.load(logits + row * row_stride + ids, mask=ids < vocab_size, other=float("-inf")).to(tl.float32)
        is_better = values > best  # never of NaN
        choice = tl.where(is_better, ids, choice)
        best = tl.where(is_better, values, best)
    tl.store(choices + row, block_argmax(best, choice)[1])


def choose_greedy(logits_TV: Tensor) -> Tensor:
    """Most likely token of each row, lowest id on ties, int64 [T]."""
    num_rows, vocab_size = logits_TV.shape
    choices_T = torch.empty(num_rows, dtype=torch.int64, device=logits_TV.device)
    if num_rows > 0:
        logits_TV = with_contiguous_rows(logits_TV)
        block = min(BLOCK, triton.next_power_of_2(vocab_size))
        grid = (num_rows,)
        greedy_kernel[grid](logits_TV, choices_T, vocab_size, logits_TV.stride(0), BLOCK=block, num_warps=NUM_WARPS)
    return choices_T


def with_contiguous_rows(logits_TV: Tensor) -> Tensor:
    return logits_TV if logits_TV.stride(1) == 1 else logits_TV.contiguous()
