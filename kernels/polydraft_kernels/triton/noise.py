"""The noise of `polydraft_kernels.noise` inside a kernel: the same 64 bits, uniforms and Gumbel numbers in float64."""
# A kernel's arguments have types only when it is compiled for them.
# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from polydraft_kernels import noise

INCREMENT: tl.constexpr = tl.constexpr(noise.INCREMENT)
MULTIPLIER_1: tl.constexpr = tl.constexpr(noise.MULTIPLIER_1)
MULTIPLIER_2: tl.constexpr = tl.constexpr(noise.MULTIPLIER_2)
STREAMS_PER_ROUND: tl.constexpr = tl.constexpr(noise.STREAMS_PER_ROUND)
MAX_UNIFORM: tl.constexpr = tl.constexpr(noise.MAX_UNIFORM)


@triton.jit
def mix(value):
    """Finaliser of splitmix64; uint64."""
    value = (value ^ (value >> 30)) * MULTIPLIER_1
    value = (value ^ (value >> 27)) * MULTIPLIER_2
    return value ^ (value >> 31)


@triton.jit
def row_state(key, position, stream, round_index):
    """The bits that select a row of noise; int64 in, uint64 out."""
    counter = (round_index * STREAMS_PER_ROUND + stream + 1).to(tl.uint64, bitcast=True)
    state = mix(mix(key.to(tl.uint64, bitcast=True) + INCREMENT) + counter * INCREMENT)
    return mix(state + (position + 1).to(tl.uint64, bitcast=True) * INCREMENT)


@triton.jit
def shared_row_state(key, position):
    """`row_state` of the shared stream, round 0; int64 in, uint64 out."""
    state = mix(mix(key.to(tl.uint64, bitcast=True) + INCREMENT) + INCREMENT)
    return mix(state + (position + 1).to(tl.uint64, bitcast=True) * INCREMENT)


@triton.jit
def noise_bits(row_state, ids):
    """The 64 random bits of token ids (int32 or int64), uint64."""
    return mix(row_state + hashed_ids(ids))


@triton.jit
def hashed_ids(ids):
    """The part of the noise that depends on the token id alone, uint64."""
    return mix((ids + 1).to(tl.uint64) * INCREMENT)


@triton.jit
def upper_bits(row_state, hashed):
    """The upper 32 of the noise's bits, uint32; the lowest may be wrong, as the last shift of `mix` is left out."""
    value = row_state + hashed
    value = (value ^ (value >> 30)) * MULTIPLIER_1
    value = (value ^ (value >> 27)) * MULTIPLIER_2
    return (value >> 32).to(tl.uint32)


@triton.jit
def uniform(bits):
    """53-bit uniforms, never 0 or 1, float64."""
    return tl.minimum(((bits >> 11).to(tl.int64).to(tl.float64) + 0.5) * (1.0 / 9007199254740992.0), MAX_UNIFORM)


@triton.jit
def gumbel(row_state, ids):
    """Gumbel noise of token ids, float64."""
    return -tl.log(-tl.log(uniform(noise_bits(row_state, ids))))
