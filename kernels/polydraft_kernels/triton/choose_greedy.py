"""The target's choice at temperature 0: argmax of the logits. T rows, V vocabulary.

Grid: one program a row, which reads its logits once in blocks and keeps the best value and its id. Logits are compared
in float32, lowest id on ties, NaN as -inf.
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
    best = float("-inf")
    choice = 0
    for first in range(0, vocab_size, BLOCK):
        ids = first + tl.arange(0, BLOCK)
        values = tl.load(logits + row * row_stride + ids, mask=ids < vocab_size, other=float("-inf")).to(tl.float32)
        values = tl.where(values == values, values, float("-inf"))
        block_best, block_choice = block_argmax(values, ids)
        choice = tl.where(block_best > best, block_choice, choice)
        best = tl.maximum(best, block_best)
    tl.store(choices + row, choice)


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
