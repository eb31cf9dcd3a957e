"""The noise of `noise` for many rows at once, on any device. T rows, V token ids."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from polydraft_kernels.noise import (
    ACCEPT_ID,
    INCREMENT,
    MASK,
    MAX_UNIFORM,
    MULTIPLIER_1,
    MULTIPLIER_2,
    STREAMS_PER_ROUND,
    Stream,
    mix_in_place,
    signed_key,
)

_INCREMENT = signed_key(INCREMENT)


def gumbel_rows(
    keys_T: Tensor,
    positions_T: Tensor,
    ids: Tensor | int,
    *,
    stream: int = Stream.SHARED,
    rounds_T: Tensor | None = None,
) -> Tensor:
    """Gumbel noise, float64 [T, V].

    `keys_T` int64, the bits of the seeds (`signed_key`); `positions_T` int64, absolute index of the token to be
    chosen; `ids` int64 [V], or a vocabulary size for the ids below it; `rounds_T` int64, 0 if not given.
    """
    return gumbel_of_states(row_states(keys_T, positions_T, stream=stream, rounds_T=rounds_T), ids)


def gumbel_of_states(states_T: Tensor, ids: Tensor | int) -> Tensor:
    """Gumbel noise of rows whose `row_states` are at hand, float64 [T, V]."""
    return _uniform(bits_of_states(states_T, ids)).log_().neg_().log_().neg_()


def accept_uniforms(keys_T: Tensor, positions_T: Tensor, rounds_T: Tensor, num_candidates: int = 1) -> Tensor:
    """The uniforms that decide on draft tokens, float64 [T, K], a column a candidate of the same place.

    Independent of all of `gumbel_rows`.
    """
    ids_K = ACCEPT_ID + torch.arange(num_candidates, device=keys_T.device)
    states_T = row_states(keys_T, positions_T, stream=Stream.ACCEPT, rounds_T=rounds_T)
    return _uniform(bits_of_states(states_T, ids_K))


def row_states(
    keys_T: Tensor, positions_T: Tensor, *, stream: int = Stream.SHARED, rounds_T: Tensor | None = None
) -> Tensor:
    """The 64 bits that select each row of noise, int64 [T]."""
    states_T = mix_rows(keys_T + _INCREMENT)
    states_T += signed_key((stream + 1) * INCREMENT & MASK)
    if rounds_T is not None:
        states_T += rounds_T * STREAMS_PER_ROUND * _INCREMENT
    return mix_rows(mix_rows(states_T) + (positions_T + 1) * _INCREMENT)


def bits_of_states(states_T: Tensor, ids: Tensor | int) -> Tensor:
    """The 64 random bits of each row and token, int64 [T, V]."""
    hashed_V = hashed_vocabulary(ids, states_T.device) if isinstance(ids, int) else hash_id_rows(ids)
    return mix_rows(states_T[:, None] + hashed_V)


def hash_id_rows(ids_V: Tensor) -> Tensor:
    """The part of the hash that depends on token ids only, int64 [V]."""
    return mix_rows((ids_V + 1) * _INCREMENT)


def mix_rows(values: Tensor) -> Tensor:
    """Finaliser of splitmix64 of every element, written over it; int64 as unsigned bits."""
    if values.device.type == "cpu":
        # numpy has unsigned shifts, torch has not: half the time for the same bits.
        mix_in_place(values.numpy().view(np.uint64))
        return values
    return mix_int64(values)


def mix_int64(values: Tensor) -> Tensor:
    """`mix_rows` in torch operations only: products wrap, and a mask makes the signed shift a logical one."""
    for shift, multiplier in ((30, MULTIPLIER_1), (27, MULTIPLIER_2)):
        values ^= (values >> shift) & ((1 << (64 - shift)) - 1)
        values *= signed_key(multiplier)
    values ^= (values >> 31) & ((1 << 33) - 1)
    return values


def _uniform(bits: Tensor) -> Tensor:
    bits >>= 11
    bits &= (1 << 53) - 1
    return bits.double().add_(0.5).mul_(2.0**-53).clamp_max_(MAX_UNIFORM)


@lru_cache(maxsize=8)
def hashed_vocabulary(vocab_size: int, device: torch.device) -> Tensor:
    """`hash_id_rows` of the ids below a vocabulary size, kept."""
    # A normal tensor even when the first call comes in inference mode, because later calls may not.
    with torch.inference_mode(False):
        return hash_id_rows(torch.arange(vocab_size, device=device))
