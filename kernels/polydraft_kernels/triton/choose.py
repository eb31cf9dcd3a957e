"""The target's choice at every row, greedy or coupled. T rows, V vocabulary.

    choice = argmax over the support of  logit / temperature + gumbel(key, position, id)      (temperature > 0)
    choice = argmax of the logits                                                             (temperature 0)

Grid: one program a row, which reads its logits once in blocks and keeps the best value and its id. Noise is made in
registers; neither it nor scores, probabilities or a mask are ever in memory. Logits are compared in float32, scores
in float64, lowest id on ties, NaN as -inf.

Top-k and top-p need an order over the row. It is found by the reference's `support_ends` in torch before the kernel,
for the rows that use them only, and reaches the kernel as two numbers a row: the logit and the id of the last token
kept.
"""
# A kernel's arguments have types only when it is compiled for them.
# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from polydraft_kernels.packing import MIN_TEMPERATURE, SamplingRows
from polydraft_kernels.reference.support import support_ends
from polydraft_kernels.triton.noise import gumbel, shared_row_state

GREEDY_BLOCK = 4096
COUPLED_BLOCK = 1024
"""Smaller, because each element costs two float64 logarithms: four a thread keep the kernel short."""
NUM_WARPS = 8
NO_ID: tl.constexpr = tl.constexpr(2147483647)
LOWEST_TEMPERATURE: tl.constexpr = tl.constexpr(MIN_TEMPERATURE)


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


@triton.jit
def coupled_kernel(
    logits, temperatures, keys, positions, end_logits, end_ids, choices, vocab_size, row_stride, BLOCK: tl.constexpr
):
    """Grid [T]."""
    row = tl.program_id(0).to(tl.int64)
    temperature = tl.load(temperatures + row)
    is_greedy = temperature <= 0.0
    divisor = tl.where(is_greedy, 1.0, tl.maximum(temperature, LOWEST_TEMPERATURE))
    noise_scale = tl.where(is_greedy, 0.0, 1.0).to(tl.float64)
    state = shared_row_state(tl.load(keys + row), tl.load(positions + row))
    end_logit = tl.load(end_logits + row)
    end_id = tl.load(end_ids + row)
    best = tl.full((), float("-inf"), tl.float64)
    choice = 0
    for first in range(0, vocab_size, BLOCK):
        ids = first + tl.arange(0, BLOCK)
        values = tl.load(logits + row * row_stride + ids, mask=ids < vocab_size, other=float("-inf")).to(tl.float32)
        is_kept = (values > end_logit) | ((values == end_logit) & (ids <= end_id))
        scores = values.to(tl.float64) / divisor + gumbel(state, ids) * noise_scale
        scores = tl.where(is_kept, scores, float("-inf"))
        block_best, block_choice = block_argmax(scores, ids)
        choice = tl.where(block_best > best, block_choice, choice)
        best = tl.maximum(best, block_best)
    tl.store(choices + row, choice)


def choose_greedy(logits_TV: Tensor) -> Tensor:
    """Most likely token of each row, lowest id on ties, int64 [T]."""
    num_rows, vocab_size = logits_TV.shape
    choices_T = torch.empty(num_rows, dtype=torch.int64, device=logits_TV.device)
    if num_rows > 0:
        logits_TV = with_contiguous_rows(logits_TV)
        block = min(GREEDY_BLOCK, triton.next_power_of_2(vocab_size))
        grid = (num_rows,)
        greedy_kernel[grid](logits_TV, choices_T, vocab_size, logits_TV.stride(0), BLOCK=block, num_warps=NUM_WARPS)
    return choices_T


def choose_coupled(logits_TV: Tensor, rows: SamplingRows) -> Tensor:
    """Token of each row, int64 [T]; rows of temperature 0 are `choose_greedy`."""
    num_rows, vocab_size = logits_TV.shape
    if not rows.may_sample or num_rows == 0:
        return choose_greedy(logits_TV)
    logits_TV = with_contiguous_rows(logits_TV)
    device = logits_TV.device
    choices_T = torch.empty(num_rows, dtype=torch.int64, device=device)
    ends = support_ends(logits_TV, rows)
    if ends is None:
        end_logits_T = torch.full((num_rows,), float("-inf"), dtype=torch.float32, device=device)
        end_ids_T = torch.full((num_rows,), vocab_size, dtype=torch.int64, device=device)
    else:
        end_logits_T, end_ids_T = ends
    coupled_kernel[(num_rows,)](
        logits_TV,
        rows.temperature_T,
        rows.keys_T,
        rows.positions_T,
        end_logits_T,
        end_ids_T,
        choices_T,
        vocab_size,
        logits_TV.stride(0),
        BLOCK=min(COUPLED_BLOCK, triton.next_power_of_2(vocab_size)),
        num_warps=NUM_WARPS,
    )
    return choices_T


def with_contiguous_rows(logits_TV: Tensor) -> Tensor:
    return logits_TV if logits_TV.stride(1) == 1 else logits_TV.contiguous()
