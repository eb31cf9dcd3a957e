"""Counter-based noise in numpy: a number is a function of (key, stream, round, position, token id) and nothing else.

With mix = the finaliser of splitmix64 and G its increment (Steele, Lea, Flood: Fast splittable pseudorandom number
generators, 2014), all arithmetic modulo 2^64:

    state = mix(mix(key + G) + G * (256 * round + stream + 1))
    row   = mix(state + G * (position + 1))
    bits  = mix(row + mix(G * (id + 1)))

    uniform = min(((bits >> 11) + 0.5) * 2^-53, 1 - 2^-53),  in (0, 1)
    gumbel  = -ln(-ln(uniform))

The inner mix of the last line depends on the id alone, so it is kept per vocabulary and a row costs one mix a token.
`noise_rows` is the same in torch and `triton/noise.py` in Triton; `noise_vectors` holds values all three must produce.
Logarithms may differ in the last place between them, the integers never do.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

MASK = (1 << 64) - 1
INCREMENT = 0x9E3779B97F4A7C15
MULTIPLIER_1 = 0xBF58476D1CE4E5B9
MULTIPLIER_2 = 0x94D049BB133111EB
STREAMS_PER_ROUND = 256
MAX_UNIFORM = 1.0 - 2.0**-53
ACCEPT_ID = 1 << 62
"""Stands where a token id would in the uniform that decides on a draft token, and the ids behind it for further
candidates of its place; no token has them."""

UInt64s = NDArray[np.uint64]
Float64s = NDArray[np.float64]


class Stream(IntEnum):
    """Streams are independent of each other."""

    SHARED = 0
    """Target and drafters; keyed by position alone (round 0), which makes the text independent of the drafts."""
    ACCEPT = 1
    """The verifier's own: whether to accept, and what to put in place; keyed by round and position."""
    DRAFTER = 2
    """A drafter's own; keyed by round and position."""


def signed_key(seed: int) -> int:
    """The int64 with the bits of an unsigned 64-bit seed, as torch stores it; ValueError outside 64 bits."""
    if not -(1 << 63) <= seed <= MASK:
        raise ValueError(f"seed {seed} does not fit in 64 bits; use a value from 0 to {MASK}")
    return seed - (1 << 64) if seed >> 63 == 1 else seed


def mix(value: int) -> int:
    """Finaliser of splitmix64 on a Python int."""
    value &= MASK
    value = (value ^ (value >> 30)) * MULTIPLIER_1 & MASK
    value = (value ^ (value >> 27)) * MULTIPLIER_2 & MASK
    return value ^ (value >> 31)


def row_state(key: int, stream: int, position: int, round_index: int = 0) -> int:
    """The 64 bits that select a row of noise; `key` may be signed or unsigned."""
    state = mix(mix(key + INCREMENT) + INCREMENT * (STREAMS_PER_ROUND * round_index + stream + 1))
    return mix(state + INCREMENT * (position + 1))


def mix_in_place(values: UInt64s) -> UInt64s:
    """`mix` of every element, written over it."""
    shifted = np.empty_like(values)
    for shift, multiplier in ((30, MULTIPLIER_1), (27, MULTIPLIER_2)):
        np.right_shift(values, np.uint64(shift), out=shifted)
        np.bitwise_xor(values, shifted, out=values)
        np.multiply(values, np.uint64(multiplier), out=values)
    np.right_shift(values, np.uint64(31), out=shifted)
    return np.bitwise_xor(values, shifted, out=values)


def hash_ids(ids: NDArray[np.integer]) -> UInt64s:
    """The part of the hash that depends on token ids only; keep it for a vocabulary that is used again."""
    return mix_in_place((ids.astype(np.uint64) + np.uint64(1)) * np.uint64(INCREMENT))


def bits_of_hashed(row: int, hashed_ids: UInt64s) -> UInt64s:
    """The 64 random bits of each token of one row; `row` is a `row_state`, `hashed_ids` come from `hash_ids`."""
    return mix_in_place(hashed_ids + np.uint64(row))


def uniform_of_bits(bits: UInt64s) -> Float64s:
    """53-bit uniforms, never 0 or 1. Overwrites `bits`."""
    bits >>= np.uint64(11)
    uniform = bits.view(np.int64).astype(np.float64)
    uniform += 0.5
    uniform *= 2.0**-53
    # Half of the last place does not fit above 1/2: the largest value would round to 1 and its Gumbel be infinite.
    return np.minimum(uniform, MAX_UNIFORM, out=uniform)


def gumbel_of_bits(bits: UInt64s) -> Float64s:
    """Standard Gumbel numbers. Overwrites `bits`."""
    noise = uniform_of_bits(bits)
    np.negative(np.log(noise, out=noise), out=noise)
    return np.negative(np.log(noise, out=noise), out=noise)


def bits_numpy(key: int, stream: int, position: int, ids: NDArray[np.integer], round_index: int = 0) -> UInt64s:
    """Random bits of explicit token ids."""
    return bits_of_hashed(row_state(key, stream, position, round_index), hash_ids(ids))


def uniform_numpy(key: int, stream: int, position: int, ids: NDArray[np.integer], round_index: int = 0) -> Float64s:
    """Uniforms of explicit token ids."""
    return uniform_of_bits(bits_numpy(key, stream, position, ids, round_index))


def gumbel_numpy(key: int, stream: int, position: int, ids: NDArray[np.integer], round_index: int = 0) -> Float64s:
    """Gumbel noise of explicit token ids: a drafter with a trimmed vocabulary gets the target's numbers.

    `position` is the absolute index in the sequence of the token to be chosen.
    """
    return gumbel_of_bits(bits_numpy(key, stream, position, ids, round_index))
