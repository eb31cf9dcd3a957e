"""The choice under coupled sampling: float32 finds the blocks that can hold it, float64 decides. T rows, V vocabulary.

    choice = argmax over the support of  s + G,  s = logit / temperature, G = -ln E, E = -ln u      (temperature > 0)
    choice = argmax of the logits                                                                   (temperature 0)

`screen_kernel`, grid [T, blocks], reads the logits once and bounds every score with one float32 logarithm. From
1 - u <= E <= (1 - u) / u and the upper 32 bits of the noise, with count = 2^32 - 1 - (bits >> 32):

    s + G <= s + 32 ln 2 - ln count + margin                   (G <= 53 ln 2 where count is 0: u <= 1 - 2^-53)
    s + G >= s + 32 ln 2 - ln(count + 2) + ln u - margin       u from below: 1 - (count + 2) 2^-32 - 2^-20, or 2^-54

-ln(-ln u) is ill-conditioned near u = 1 in float32; the count is exact there. Each block stores its largest upper bound
and the lower bound of the token that has it.
margin = 2^-18 (|s| + 64) covers, with room: temperature and quotient, 2^-21 |s|; the approximate logarithm of numbers
up to 2^32, 2^-21 * 23; the half step of u, 2^-22; the sums, 2^-23 (|s| + 60); the float64 scores, 2^-52 (|s| + 64).
Scores and temperatures beyond 2^100 give no lower bound, so such rows are rechecked whole.

`recheck_kernel`, grid [T], visits in order of ids the blocks whose upper bound reaches the largest lower bound, one or
two a row, and scores them in float64: the choice is that of float64 over the whole row, lowest id on ties, NaN as -inf.
Neither noise nor scores, probabilities or a mask are ever in memory.

Top-k and top-p need an order over the row. It is found by the reference's `support_ends_of_all_rows` in torch before
the kernels and reaches them as two numbers a row: the logit and the id of the last token kept.
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
from polydraft_kernels.reference.support import SupportEnds, support_ends_of_all_rows
from polydraft_kernels.triton.choose_greedy import block_argmax, choose_greedy, with_contiguous_rows
from polydraft_kernels.triton.noise import gumbel, noise_bits, shared_row_state

BLOCK = 2048
NUM_WARPS = 8
LOWEST_TEMPERATURE: tl.constexpr = tl.constexpr(MIN_TEMPERATURE)
MARGIN: tl.constexpr = tl.constexpr(2.0**-18)
MAX_BOUNDED: tl.constexpr = tl.constexpr(2.0**100)
LN_2: tl.constexpr = tl.constexpr(0.6931471805599453)


@triton.jit
def supported_logits(logits, row, ids, vocab_size, row_stride, end_logits, end_ids):
    """Logits of some ids of a row in float32, -inf outside the support."""
    values = tl.load(logits + row * row_stride + ids, mask=ids < vocab_size, other=float("-inf")).to(tl.float32)
    end_logit = tl.load(end_logits + row)
    is_kept = (values > end_logit) | ((values == end_logit) & (ids <= tl.load(end_ids + row)))
    return tl.where(is_kept, values, float("-inf"))


@triton.jit
def screen_kernel(
    logits,
    temperatures,
    keys,
    positions,
    end_logits,
    end_ids,
    highs,
    lows,
    vocab_size,
    row_stride,
    BLOCK: tl.constexpr,
):
    """Grid [T, blocks]."""
    row = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    ids = block * BLOCK + tl.arange(0, BLOCK)
    values = supported_logits(logits, row, ids, vocab_size, row_stride, end_logits, end_ids)
    temperature = tl.load(temperatures + row)
    divisor = tl.maximum(temperature, LOWEST_TEMPERATURE).to(tl.float32)
    scores = values / divisor
    state = shared_row_state(tl.load(keys + row), tl.load(positions + row))
    counts = (4294967295 - (noise_bits(state, ids) >> 32).to(tl.int64)).to(tl.float32)
    noise_high = tl.where(counts > 0.0, 32.0 * LN_2 - tl.log(tl.maximum(counts, 1.0)), 53.0 * LN_2)
    is_supported = scores > float("-inf")
    finite = tl.where(is_supported, scores, 0.0)
    high = tl.where(is_supported, finite + noise_high + MARGIN * (tl.abs(finite) + 64.0), float("-inf"))
    high = tl.where(temperature > 0.0, high, values)

    highest, leader = block_argmax(high, ids)
    score = tl.max(tl.where(ids == leader, scores, float("-inf")), 0)
    above = (tl.max(tl.where(ids == leader, counts, 0.0), 0) + 2.0) * (1.0 / 4294967296.0)
    least_uniform = tl.maximum(1.0 - above - 1.0 / 1048576.0, 1.0 / 18014398509481984.0)
    is_bounded = (tl.abs(score) < MAX_BOUNDED) & (temperature < MAX_BOUNDED)
    score = tl.where(is_bounded, score, 0.0)
    low = score - tl.log(above) + tl.log(least_uniform) - MARGIN * (tl.abs(score) + 64.0)
    low = tl.where(is_bounded, low, float("-inf"))
    low = tl.where(temperature > 0.0, low, highest)
    place = row * tl.num_programs(1) + block
    tl.store(highs + place, highest)
    tl.store(lows + place, low)


@triton.jit
def recheck_kernel(
    logits,
    temperatures,
    keys,
    positions,
    end_logits,
    end_ids,
    highs,
    lows,
    choices,
    vocab_size,
    row_stride,
    num_blocks,
    BLOCK: tl.constexpr,
    MAX_BLOCKS: tl.constexpr,
):
    """Grid [T]. MAX_BLOCKS is a power of two, at least num_blocks."""
    row = tl.program_id(0).to(tl.int64)
    blocks = tl.arange(0, MAX_BLOCKS)
    highs_of_row = tl.load(highs + row * num_blocks + blocks, mask=blocks < num_blocks, other=float("-inf"))
    lows_of_row = tl.load(lows + row * num_blocks + blocks, mask=blocks < num_blocks, other=float("-inf"))
    may_hold = (highs_of_row >= tl.max(lows_of_row, 0)) & (blocks < num_blocks)
    temperature = tl.load(temperatures + row)
    is_greedy = temperature <= 0.0
    divisor = tl.where(is_greedy, 1.0, tl.maximum(temperature, LOWEST_TEMPERATURE))
    noise_scale = tl.where(is_greedy, 0.0, 1.0).to(tl.float64)
    state = shared_row_state(tl.load(keys + row), tl.load(positions + row))
    best = tl.full((), float("-inf"), tl.float64)
    choice = tl.full((), 0, tl.int32)
    block = tl.min(tl.where(may_hold, blocks, MAX_BLOCKS), 0)
    while block < MAX_BLOCKS:
        ids = block * BLOCK + tl.arange(0, BLOCK)
        values = supported_logits(logits, row, ids, vocab_size, row_stride, end_logits, end_ids)
        scores = values.to(tl.float64) / divisor + gumbel(state, ids) * noise_scale
        block_best, block_choice = block_argmax(scores, ids)
        choice = tl.where(block_best > best, block_choice, choice)
        best = tl.maximum(best, block_best)
        block = tl.min(tl.where(may_hold & (blocks > block), blocks, MAX_BLOCKS), 0)
    tl.store(choices + row, choice)


def choose_coupled(logits_TV: Tensor, rows: SamplingRows) -> Tensor:
    """Token of each row, int64 [T]; rows of temperature 0 are `choose_greedy`."""
    num_rows, vocab_size = logits_TV.shape
    if not rows.may_sample or num_rows == 0:
        return choose_greedy(logits_TV)
    logits_TV = with_contiguous_rows(logits_TV)
    ends = support_ends_of_all_rows(logits_TV, rows) or whole_support(num_rows, vocab_size, logits_TV.device)
    block = min(BLOCK, triton.next_power_of_2(vocab_size))
    num_blocks = triton.cdiv(vocab_size, block)
    highs_TB, lows_TB = torch.empty(2, num_rows, num_blocks, dtype=torch.float32, device=logits_TV.device)
    choices_T = torch.empty(num_rows, dtype=torch.int64, device=logits_TV.device)
    row_inputs = (logits_TV, rows.temperature_T, rows.keys_T, rows.positions_T, *ends)
    sizes = (vocab_size, logits_TV.stride(0))
    screen_kernel[(num_rows, num_blocks)](*row_inputs, highs_TB, lows_TB, *sizes, BLOCK=block, num_warps=NUM_WARPS)
    recheck_kernel[(num_rows,)](
        *row_inputs,
        highs_TB,
        lows_TB,
        choices_T,
        *sizes,
        num_blocks,
        BLOCK=block,
        MAX_BLOCKS=triton.next_power_of_2(num_blocks),
        num_warps=NUM_WARPS,
    )
    return choices_T


def whole_support(num_rows: int, vocab_size: int, device: torch.device) -> SupportEnds:
    """The ends of rows that keep every token."""
    return SupportEnds(
        torch.full((num_rows,), float("-inf"), dtype=torch.float32, device=device),
        torch.full((num_rows,), vocab_size, dtype=torch.int64, device=device),
    )
