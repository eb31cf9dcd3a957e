"""The target's law of every row without its V probabilities in memory: a peak and a total. T rows, V vocabulary.

    p(v) = exp(logit / temperature - peak) / total over the support        (temperature > 0)
    p(v) = 1 at the lowest id of the largest logit                         (temperature 0)

`partial_laws_kernel`, grid [T, blocks], reduces each block of the logits; `merge_laws_kernel`, grid [T], merges a row's
blocks. Later kernels compute p(v) of the tokens that they look at with `probabilities`. All in float64; sums run in
another order than torch's and so differ from the reference's in the last places.
"""
# A kernel's arguments have types only when it is compiled for them.
# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from polydraft_kernels.packing import SamplingRows
from polydraft_kernels.reference.support import support_ends_of_all_rows
from polydraft_kernels.triton.choose_coupled import LOWEST_TEMPERATURE, supported_logits, whole_support
from polydraft_kernels.triton.choose_greedy import NO_ID, block_argmax, with_contiguous_rows

BLOCK = 1024
"""Small, because each element costs a float64 exponential."""
NUM_WARPS = 8


class RowLaws(NamedTuple):
    """What `probabilities` needs, in its order of arguments."""

    logits_TV: Tensor
    row_stride: int
    vocab_size: int
    temperatures_T: Tensor
    end_logits_T: Tensor
    end_ids_T: Tensor
    peaks_T: Tensor
    """float64: largest logit / temperature of the support."""
    totals_T: Tensor
    """float64: sum of exp(logit / temperature - peak)."""
    choices_T: Tensor
    """int64: the most likely token."""


@triton.jit
def scaled_logits(logits, row_stride, vocab_size, temperatures, end_logits, end_ids, row, ids):
    """logit / temperature (temperature 0: the logit), float64, -inf outside the support."""
    temperature = tl.load(temperatures + row)
    divisor = tl.where(temperature > 0.0, tl.maximum(temperature, LOWEST_TEMPERATURE), 1.0)
    return supported_logits(logits, row, ids, vocab_size, row_stride, end_logits, end_ids).to(tl.float64) / divisor


@triton.jit
def probabilities(logits, row_stride, vocab_size, temperatures, end_logits, end_ids, peaks, totals, choices, row, ids):
    """p(v) of some ids (a block, or one) of a row, float64."""
    scaled = scaled_logits(logits, row_stride, vocab_size, temperatures, end_logits, end_ids, row, ids)
    soft = tl.exp(scaled - tl.load(peaks + row)) / tl.load(totals + row)
    one_hot = tl.where(ids == tl.load(choices + row), 1.0, 0.0)
    return tl.where(tl.load(temperatures + row) > 0.0, soft, one_hot)


@triton.jit
def partial_laws_kernel(
    logits,
    row_stride,
    vocab_size,
    temperatures,
    end_logits,
    end_ids,
    block_peaks,
    block_totals,
    block_choices,
    BLOCK: tl.constexpr,
):
    """Grid [T, blocks]."""
    row = tl.program_id(0).to(tl.int64)
    ids = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    scaled = scaled_logits(logits, row_stride, vocab_size, temperatures, end_logits, end_ids, row, ids)
    peak, choice = block_argmax(scaled, ids)
    # A block outside the support adds nothing; -inf - (-inf) would be NaN.
    total = tl.sum(tl.exp(scaled - tl.where(peak > float("-inf"), peak, 0.0)), 0)
    place = row * tl.num_programs(1) + tl.program_id(1)
    tl.store(block_peaks + place, peak)
    tl.store(block_totals + place, total)
    tl.store(block_choices + place, choice)


@triton.jit
def merge_laws_kernel(
    block_peaks, block_totals, block_choices, peaks, totals, choices, num_blocks, MAX_BLOCKS: tl.constexpr
):
    """Grid [T]. MAX_BLOCKS is a power of two, at least num_blocks."""
    row = tl.program_id(0).to(tl.int64)
    blocks = tl.arange(0, MAX_BLOCKS)
    places = row * num_blocks + blocks
    peaks_of_row = tl.load(block_peaks + places, mask=blocks < num_blocks, other=float("-inf"))
    totals_of_row = tl.load(block_totals + places, mask=blocks < num_blocks, other=0.0)
    choices_of_row = tl.load(block_choices + places, mask=blocks < num_blocks, other=NO_ID)
    peak = tl.max(peaks_of_row, 0)
    finite_peak = tl.where(peak > float("-inf"), peak, 0.0)
    tl.store(peaks + row, finite_peak)
    tl.store(totals + row, tl.sum(totals_of_row * tl.exp(peaks_of_row - finite_peak), 0))
    tl.store(choices + row, tl.min(tl.where(peaks_of_row == peak, choices_of_row, NO_ID), 0))


def row_laws(logits_TV: Tensor, rows: SamplingRows) -> RowLaws:
    """The laws of all rows."""
    num_rows, vocab_size = logits_TV.shape
    device = logits_TV.device
    logits_TV = with_contiguous_rows(logits_TV)
    ends = support_ends_of_all_rows(logits_TV, rows) or whole_support(num_rows, vocab_size, device)
    laws = RowLaws(
        logits_TV,
        logits_TV.stride(0),
        vocab_size,
        rows.temperature_T,
        *ends,
        peaks_T=torch.empty(num_rows, dtype=torch.float64, device=device),
        totals_T=torch.empty(num_rows, dtype=torch.float64, device=device),
        choices_T=torch.empty(num_rows, dtype=torch.int64, device=device),
    )
    block, num_blocks = blocks_of(vocab_size)
    peaks_TB, totals_TB = torch.empty(2, num_rows, num_blocks, dtype=torch.float64, device=device)
    choices_TB = torch.empty(num_rows, num_blocks, dtype=torch.int32, device=device)
    partials = (peaks_TB, totals_TB, choices_TB)
    partial_laws_kernel[(num_rows, num_blocks)](*laws[:6], *partials, BLOCK=block, num_warps=NUM_WARPS)
    merge_laws_kernel[(num_rows,)](*partials, *laws[6:], num_blocks, MAX_BLOCKS=triton.next_power_of_2(num_blocks))
    return laws


def blocks_of(vocab_size: int) -> tuple[int, int]:
    """Size and number of the blocks that a row is read in."""
    block = min(BLOCK, triton.next_power_of_2(vocab_size))
    return block, triton.cdiv(vocab_size, block)
