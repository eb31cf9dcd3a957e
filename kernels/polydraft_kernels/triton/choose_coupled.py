"""The choice under coupled sampling: float32 finds the blocks that can hold it, float64 decides. T rows, V vocabulary.

    choice = argmax over the support of  s + G,  s = logit / temperature, G = -ln E, E = -ln u      (temperature > 0)
    choice = argmax of the logits                                                                   (temperature 0)

From 1 - u <= E <= (1 - u) / u and the upper 32 bits of the noise, with count = 2^32 - 1 - (bits >> 32):

    s + G <= s + 32 ln 2 - ln max(count, 1) + margin                              (where count is 0: + 53 ln 2)
    s + G >= s + 32 ln 2 - ln(count + 2) + ln u - margin       u from below: 1 - (count + 2) 2^-32 - 2^-20, or 2^-54

-ln(-ln u) is ill-conditioned near u = 1 in float32; the count is exact there.

`screen_kernel`, grid [T / ROWS, blocks], reads the logits once and bounds every score from above. It is bound by its
instructions, so it hashes the ids once for a few rows, leaves out the last shift of the hash (which changes the lowest
bit of the count; cleared, it is a bound), and takes exponent and mantissa of a float32 for its logarithm: they are a
chord below it, at most 0.06 too low. Each block stores its largest bound and the token that has it.
margin = 2^-18 (|s| + 64) covers, with room: temperature, its inverse and the product, 2^-22 |s|; the half step of u,
2^-22; the conversion of a float32's bits, 2^-17; the sums, 2^-23 (|s| + 160); the float64 scores, 2^-52 (|s| + 64).

`recheck_kernel`, grid [T], bounds the score of each block's token from below, visits in order of ids the blocks whose
upper bound reaches the largest lower bound, one or two a row, and scores them in float64: the choice is that of float64
over the whole row, lowest id on ties, NaN as -inf. Scores and temperatures beyond 2^100 give no lower bound, so such
rows are rechecked whole. Neither noise nor scores, probabilities or a mask are ever in memory.

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
from polydraft_kernels.triton.noise import gumbel, hashed_ids, noise_bits, shared_row_state, upper_bits

BLOCK = 2048
NUM_WARPS, SCREEN_WARPS = 8, 4
ROWS, MANY_ROWS = 4, 32
"""Rows of one program of the screen, from so many on that the device is full."""
LOWEST_TEMPERATURE: tl.constexpr = tl.constexpr(MIN_TEMPERATURE)
MARGIN: tl.constexpr = tl.constexpr(2.0**-18)
MAX_BOUNDED: tl.constexpr = tl.constexpr(2.0**100)
MAX_SCREENED: tl.constexpr = tl.constexpr(2.0**126)
"""Scores are cut to this, which leaves no infinity and no NaN; no lower bound is as large."""
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
    leaders,
    num_rows,
    vocab_size,
    row_stride,
    HAS_ENDS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid [T / ROWS, blocks]; `highs` float32 and `leaders` int32 [T, blocks]."""
    first_row = tl.program_id(0).to(tl.int64) * ROWS
    block = tl.program_id(1)
    ids = block * BLOCK + tl.arange(0, BLOCK)
    hashed = hashed_ids(ids)
    for row in range(first_row, tl.minimum(first_row + ROWS, num_rows)):
        if HAS_ENDS:
            values = supported_logits(logits, row, ids, vocab_size, row_stride, end_logits, end_ids)
        else:
            values = tl.load(logits + row * row_stride + ids, mask=ids < vocab_size, other=float("-inf")).to(tl.float32)
        temperature = tl.load(temperatures + row)
        # Of a greedy row the bound is the logit itself.
        is_sampled = tl.where(temperature > 0.0, 1.0, 0.0)
        inverse = tl.where(temperature > 0.0, 1.0 / tl.maximum(temperature, LOWEST_TEMPERATURE).to(tl.float32), 1.0)
        scores = tl.minimum(values * inverse, MAX_SCREENED)
        scores = tl.where(scores > -MAX_SCREENED, scores, -MAX_SCREENED)  # NaN too
        upper = upper_bits(shared_row_state(tl.load(keys + row), tl.load(positions + row)), hashed)
        count = (4294967295 - upper) & 4294967294  # the true one, or one less
        # The bits of a positive float32, seen as an integer, are 2^23 (127 + a chord of its binary logarithm); of 0
        # they are 0, which bounds any noise.
        bits = count.to(tl.float32).to(tl.int32, bitcast=True).to(tl.float32)
        noise_high = is_sampled * (159.0 * LN_2 + 64.0 * MARGIN) - bits * (is_sampled * (LN_2 / 8388608.0))
        high = scores + tl.abs(scores) * (is_sampled * MARGIN) + noise_high
        highest, leader = block_argmax(high, ids)
        place = row * tl.num_programs(1) + block
        tl.store(highs + place, highest)
        tl.store(leaders + place, leader)


@triton.jit
def lower_bounds(scores, temperature, state, ids):
    """Of the perturbed scores of some ids, float32; -inf where float32 cannot tell."""
    counts = (4294967295 - (noise_bits(state, ids) >> 32).to(tl.int64)).to(tl.float32)
    above = (counts + 2.0) * (1.0 / 4294967296.0)
    least_uniform = tl.maximum(1.0 - above - 1.0 / 1048576.0, 1.0 / 18014398509481984.0)
    is_bounded = tl.where(temperature < MAX_BOUNDED, tl.abs(scores), MAX_BOUNDED) < MAX_BOUNDED
    finite = tl.where(is_bounded, scores, 0.0)
    low = finite - tl.log(above) + tl.log(least_uniform) - MARGIN * (tl.abs(finite) + 64.0)
    return tl.where(is_bounded, low, float("-inf"))


@triton.jit
def recheck_kernel(
    logits,
    temperatures,
    keys,
    positions,
    end_logits,
    end_ids,
    highs,
    leaders,
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
    is_block = blocks < num_blocks
    places = row * num_blocks + blocks
    highs_of_row = tl.load(highs + places, mask=is_block, other=float("-inf"))
    leaders_of_row = tl.load(leaders + places, mask=is_block, other=0)
    temperature = tl.load(temperatures + row)
    is_greedy = temperature <= 0.0
    divisor = tl.where(is_greedy, 1.0, tl.maximum(temperature, LOWEST_TEMPERATURE))
    noise_scale = tl.where(is_greedy, 0.0, 1.0).to(tl.float64)
    state = shared_row_state(tl.load(keys + row), tl.load(positions + row))
    leading = supported_logits(logits, row, leaders_of_row, vocab_size, row_stride, end_logits, end_ids)
    lows = lower_bounds(leading / divisor.to(tl.float32), temperature, state, leaders_of_row)
    lows = tl.where(is_greedy, highs_of_row, lows)
    may_hold = (highs_of_row >= tl.max(tl.where(is_block, lows, float("-inf")), 0)) & is_block
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
    found_ends = support_ends_of_all_rows(logits_TV, rows)
    ends = found_ends or whole_support(num_rows, vocab_size, logits_TV.device)
    block = min(BLOCK, triton.next_power_of_2(vocab_size))
    num_blocks = triton.cdiv(vocab_size, block)
    highs_TB = torch.empty(num_rows, num_blocks, dtype=torch.float32, device=logits_TV.device)
    leaders_TB = torch.empty(num_rows, num_blocks, dtype=torch.int32, device=logits_TV.device)
    choices_T = torch.empty(num_rows, dtype=torch.int64, device=logits_TV.device)
    row_inputs = (logits_TV, rows.temperature_T, rows.keys_T, rows.positions_T, *ends)
    sizes = (vocab_size, logits_TV.stride(0))
    rows_each = ROWS if num_rows >= MANY_ROWS else 1
    screen_kernel[(triton.cdiv(num_rows, rows_each), num_blocks)](
        *row_inputs,
        highs_TB,
        leaders_TB,
        num_rows,
        *sizes,
        HAS_ENDS=found_ends is not None,
        ROWS=rows_each,
        BLOCK=block,
        num_warps=SCREEN_WARPS,
    )
    recheck_kernel[(num_rows,)](
        *row_inputs,
        highs_TB,
        leaders_TB,
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
