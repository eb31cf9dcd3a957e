"""The coupled choice on CPU: float32 finds the few tokens that can win, float64 decides among them. S rows, V ids.

`choose_coupled` takes the argmax of s + G in float64, with s = logit / temperature, G = -ln E and E = -ln u. The same
order seen as a race: s + G is largest where exp(s - max s) / E is. Since 1 - u <= E <= (1 - u) / u,

    r = w / c,   w = exp((logit - max logit) / temperature) and c = 2^32 (1 - u), both in float32

bounds it from above, and r u from below, without a logarithm and without the cases where -ln(-ln u) is
ill-conditioned: c comes from the bits, as exact near u = 1, where winners lie, as elsewhere. With a the token of the
largest r, whatever wins has r >= r_a u_a (1 - SLACK). Those tokens, one to three a row, are scored in float64 as the
specification does.

SLACK holds all errors; relative ones add up to less than 2^-6 + 2^-15:
    c       the bits after the last product but before the last shift, upper word: |c - 2^32 (1 - u)| < 4, at most
            4 / MIN_COUNT = 2^-7 on either side; rows with a smaller c are not screened (one in 1,000 at V = 8192)
    w       difference, factor and product round by 2^-24 each: |x| 2^-22 for an exponent x, 2^-16 for |x| <= 64; a
            token below that cannot win: 2^-54 <= u <= 1 - 2^-53 confines G to [-3.7, 36.8]
    exp, quotients, conversions: under 2^-20 together
    the scores in float64: 2^-52 (|s| + 64) on either side, under 2^-20 where |s| <= MAX_SCORE
"""

from __future__ import annotations

import math
import threading
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polydraft_kernels import noise
from polydraft_kernels.noise_rows import hashed_vocabulary
from polydraft_kernels.packing import MIN_TEMPERATURE, SamplingRows

NOT_CHOSEN = -1
SLACK = 2.0**-5
MIN_COUNT = 512.0
MAX_SCORE = 2.0**30
ELEMENTS_AT_ONCE = 1 << 16
"""Tokens worked on at a time, at up to 29 bytes each: about what a core's second cache holds."""
_SHIFTS = (np.uint64(30), np.uint64(27))
_MULTIPLIERS = (np.uint64(noise.MULTIPLIER_1), np.uint64(-noise.MULTIPLIER_2 & noise.MASK))
_MIN_UNIFORM = 2.0**-54

Int64s = NDArray[np.int64]
Float32s = NDArray[np.float32]
Number = TypeVar("Number", bound=np.generic)


class _Scratch(threading.local):
    """Memory kept from call to call: to get fresh pages takes longer than to compute what goes into them."""

    def __init__(self) -> None:
        self.reserve(ELEMENTS_AT_ONCE)

    def reserve(self, num_elements: int) -> None:
        self.bits_N = np.empty(num_elements, np.uint64)
        self.shifted_N = np.empty(num_elements, np.uint64)
        self.counts_N = np.empty(num_elements, np.float32)
        self.weights_N = np.empty(num_elements, np.float32)
        self.may_win_N = np.empty(num_elements, np.bool_)


_scratch = _Scratch()


def choose_screened(logits_SV: Tensor, rows: SamplingRows) -> Tensor:
    """Choice of each sampled row, int64 [S], `NOT_CHOSEN` where it has to be found without the screen.

    `logits_SV` float32, bfloat16 or float16 on CPU; tokens outside the support are -inf.
    """
    num_rows, vocab_size = logits_SV.shape
    temperatures_S = np.maximum(rows.temperature_T.numpy(), MIN_TEMPERATURE)
    keyed = zip(rows.keys_T.tolist(), rows.positions_T.tolist(), strict=True)
    states_S = np.array([noise.row_state(key, noise.Stream.SHARED, position) for key, position in keyed], np.uint64)
    hashed_V = hashed_vocabulary(vocab_size, logits_SV.device).numpy().view(np.uint64)
    choices_S = np.empty(num_rows, dtype=np.int64)
    if vocab_size > _scratch.bits_N.shape[0]:
        _scratch.reserve(vocab_size)
    num_at_once = max(1, ELEMENTS_AT_ONCE // vocab_size)
    for first in range(0, num_rows, num_at_once):
        block = slice(first, first + num_at_once)
        values_SV = logits_SV[block].float().numpy()
        choices_S[block] = _choose_block(values_SV, temperatures_S[block], states_S[block], hashed_V)
    return torch.from_numpy(choices_S)


def _choose_block(
    values_SV: Float32s, temperatures_S: noise.Float64s, states_S: noise.UInt64s, hashed_V: noise.UInt64s
) -> Int64s:
    peaks_S = values_SV.max(axis=1)
    counts_SV = _counts(states_S, hashed_V)
    is_screened_S = (np.abs(peaks_S / temperatures_S) <= MAX_SCORE) & (temperatures_S <= MAX_SCORE)
    is_screened_S &= counts_SV.min(axis=1) >= MIN_COUNT
    rows_C, ids_C = _candidates(_weights(values_SV, peaks_S, temperatures_S), counts_SV)
    scores_C = noise.gumbel_of_bits(noise.mix_in_place(states_S[rows_C] + hashed_V[ids_C]))
    scores_C += values_SV[rows_C, ids_C].astype(np.float64) / temperatures_S[rows_C]
    best_S = np.full(len(states_S), -np.inf)
    np.maximum.at(best_S, rows_C, scores_C)
    choices_S = np.full(len(states_S), NOT_CHOSEN, dtype=np.int64)
    # Candidates come in the order of ids; of assignments to one place the last stays, so backwards the lowest id.
    winners_C = np.flatnonzero(scores_C == best_S[rows_C])[::-1]
    choices_S[rows_C[winners_C]] = ids_C[winners_C]
    choices_S[~is_screened_S] = NOT_CHOSEN
    return choices_S


def _counts(states_S: noise.UInt64s, hashed_V: noise.UInt64s) -> Float32s:
    """2^32 (1 - u) of every row and token to an error of 4, float32 [S, V].

    Multiplying by the negated constant gives 2^64 less the bits; the last shift of the hash changes only lower ones.
    """
    shape = (states_S.shape[0], hashed_V.shape[0])
    bits_SV, shifted_SV = _shaped(_scratch.bits_N, shape), _shaped(_scratch.shifted_N, shape)
    np.add(states_S[:, None], hashed_V, out=bits_SV)
    for shift, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=True):
        np.right_shift(bits_SV, shift, out=shifted_SV)
        np.bitwise_xor(bits_SV, shifted_SV, out=bits_SV)
        np.multiply(bits_SV, multiplier, out=bits_SV)
    counts_SV = _shaped(_scratch.counts_N, shape)
    counts_SV[:] = bits_SV.view(np.uint32)[:, 1::2]  # the upper word
    return counts_SV


def _weights(values_SV: Float32s, peaks_S: Float32s, temperatures_S: noise.Float64s) -> Float32s:
    """exp((logit - max) / temperature), float32 [S, V]: the difference first, so that large logits lose nothing."""
    weights_SV = _shaped(_scratch.weights_N, values_SV.shape)
    # torch, which does not warn of NaN and overflow (rows that have them are not screened) and has the faster exp.
    inverses_S1 = torch.from_numpy(1.0 / temperatures_S).float()[:, None]
    weights = torch.from_numpy(weights_SV)
    torch.sub(torch.from_numpy(values_SV), torch.from_numpy(peaks_S)[:, None], out=weights)
    weights.mul_(inverses_S1).exp_()
    return weights_SV


def _candidates(weights_SV: Float32s, counts_SV: Float32s) -> tuple[Int64s, Int64s]:
    """Row and id of each token that may win, in order."""
    bounds_SV = weights_SV
    torch.from_numpy(bounds_SV).div_(torch.from_numpy(counts_SV))
    rows_S, leaders_S = np.arange(len(bounds_SV)), bounds_SV.argmax(axis=1)
    counts_S = counts_SV[rows_S, leaders_S].astype(np.float64)
    least_uniforms_S = np.maximum(1.0 - (counts_S + 4.0) * 2.0**-32, _MIN_UNIFORM)
    thresholds_S = bounds_SV[rows_S, leaders_S] * least_uniforms_S * (1.0 - SLACK)
    may_win_SV = _shaped(_scratch.may_win_N, bounds_SV.shape)
    np.greater_equal(bounds_SV, thresholds_S.astype(np.float32)[:, None], out=may_win_SV)
    flat_C = np.flatnonzero(may_win_SV)  # ten times faster than `nonzero` of two dimensions
    return np.divmod(flat_C, bounds_SV.shape[1])


def _shaped(scratch_N: NDArray[Number], shape: tuple[int, ...]) -> NDArray[Number]:
    return scratch_N[: math.prod(shape)].reshape(shape)
