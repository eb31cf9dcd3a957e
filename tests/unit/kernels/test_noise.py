"""The noise: the same bits everywhere, uniform, and independent across everything that keys it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from polydraft_kernels import noise, noise_rows
from polydraft_kernels.noise import Stream
from polydraft_kernels.noise_vectors import NOISE_VECTORS, NoiseVector

NUM_SAMPLES = 100_000
MAX_CORRELATION = 5 / NUM_SAMPLES**0.5
"""Five standard deviations of the correlation of independent numbers."""


@pytest.mark.parametrize("vector", NOISE_VECTORS)
def test_numpy_produces_the_stored_bits(vector: NoiseVector) -> None:
    ids = np.array([vector.token_id])

    bits = noise.bits_numpy(vector.key, vector.stream, vector.position, ids, vector.round_index)

    assert int(bits[0]) == vector.bits


@pytest.mark.parametrize("vector", NOISE_VECTORS)
def test_torch_produces_the_stored_bits(vector: NoiseVector) -> None:
    states_T = noise_rows.row_states(
        torch.tensor([noise.signed_key(vector.key)]),
        torch.tensor([vector.position]),
        stream=vector.stream,
        rounds_T=torch.tensor([vector.round_index]),
    )

    bits_TV = noise_rows.bits_of_states(states_T, torch.tensor([vector.token_id]))

    assert int(bits_TV[0, 0]) == noise.signed_key(vector.bits)


def test_torch_operations_mix_as_numpy_does() -> None:
    """The way that a CUDA device takes, on CPU."""
    values = torch.randint(-(2**63), 2**63 - 1, (10_000,), generator=torch.Generator().manual_seed(1))

    assert torch.equal(noise_rows.mix_int64(values.clone()), noise_rows.mix_rows(values.clone()))


def test_a_trimmed_vocabulary_gets_the_same_numbers() -> None:
    ids = np.array([5, 17, 4095, 8191])

    rows_TV = noise_rows.gumbel_rows(torch.tensor([noise.signed_key(2**64 - 3)]), torch.tensor([99]), 8192)

    # The logarithms of numpy and torch may differ in the last place.
    np.testing.assert_allclose(
        rows_TV[0, torch.from_numpy(ids)].numpy(), noise.gumbel_numpy(2**64 - 3, Stream.SHARED, 99, ids), rtol=1e-14
    )


def test_signed_and_unsigned_keys_with_the_same_bits_are_the_same_key() -> None:
    ids = np.arange(10)

    np.testing.assert_array_equal(
        noise.bits_numpy(2**64 - 1, 0, 0, ids), noise.bits_numpy(noise.signed_key(2**64 - 1), 0, 0, ids)
    )


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_a_seed_beyond_64_bits_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="does not fit in 64 bits"):
        noise.signed_key(seed)


def test_uniforms_never_reach_zero_or_one() -> None:
    extremes = np.array([0, noise.MASK], dtype=np.uint64)

    uniform = noise.uniform_of_bits(extremes.copy())

    assert 0.0 < uniform[0] < uniform[1] < 1.0
    assert np.isfinite(noise.gumbel_of_bits(extremes.copy())).all()


def rows_along(axis: str) -> NDArray[np.float64]:
    """Uniforms [100_000] along one counter, the others fixed."""
    numbers = torch.arange(NUM_SAMPLES)
    fixed = torch.full((NUM_SAMPLES,), 7)
    states_T = noise_rows.row_states(
        numbers if axis == "key" else fixed,
        numbers if axis == "position" else fixed,
        rounds_T=numbers if axis == "round" else None,
    )
    bits_TV = noise_rows.bits_of_states(states_T, torch.tensor([3]))
    if axis == "id":
        bits_TV = noise_rows.bits_of_states(states_T[:1], NUM_SAMPLES)
    return noise.uniform_of_bits(bits_TV.flatten().numpy().view(np.uint64).copy())


@pytest.mark.parametrize("axis", ["key", "position", "round", "id"])
def test_numbers_along_one_counter_are_uniform_and_uncorrelated(axis: str) -> None:
    uniform = rows_along(axis)

    counts = np.bincount((uniform * 64).astype(int), minlength=64)
    expected = NUM_SAMPLES / 64
    chi_square = ((counts - expected) ** 2 / expected).sum()
    # 63 degrees of freedom: mean 63, standard deviation 11.2; the bounds are five of them above and below.
    assert 7 < chi_square < 119
    for lag in (1, 2, 64, 256):
        assert abs(np.corrcoef(uniform[:-lag], uniform[lag:])[0, 1]) < MAX_CORRELATION * 1.01


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((7, 0, 5, 0), (8, 0, 5, 0)),
        ((7, 0, 5, 0), (7 + noise.INCREMENT, 0, 5, 0)),
        ((7, 0, 5, 0), (7, 1, 5, 0)),
        ((7, 1, 5, 0), (7, 2, 5, 0)),
        ((7, 0, 5, 0), (7, 0, 6, 0)),
        ((7, 1, 5, 0), (7, 1, 5, 1)),
        ((7, 1, 5, 1), (7, 1, 6, 0)),
    ],
)
def test_rows_of_other_keys_streams_positions_and_rounds_are_independent(
    one: tuple[int, int, int, int], other: tuple[int, int, int, int]
) -> None:
    ids = np.arange(NUM_SAMPLES)
    first, second = (noise.uniform_numpy(row[0], row[1], row[2], ids, row[3]) for row in (one, other))

    assert abs(np.corrcoef(first, second)[0, 1]) < MAX_CORRELATION
    pairs = np.bincount((first * 8).astype(int) * 8 + (second * 8).astype(int), minlength=64)
    expected = NUM_SAMPLES / 64
    assert 7 < ((pairs - expected) ** 2 / expected).sum() < 119
    # Nor is one the other with its ids moved.
    for shift in (1, 2, 3):
        assert abs(np.corrcoef(first[:-shift], second[shift:])[0, 1]) < MAX_CORRELATION * 1.01


def test_each_bit_of_a_counter_changes_half_of_the_bits() -> None:
    ids = np.arange(2000)
    plain = noise.bits_numpy(7, 0, 5, ids)

    for bit in (0, 1, 13, 31, 63):
        flipped = noise.bits_numpy(7 ^ (1 << bit), 0, 5, ids)
        assert abs(np.bitwise_count(plain ^ flipped).mean() - 32) < 0.5  # 0.09 is one standard deviation
    for bit in (0, 1, 13, 31):
        flipped = noise.bits_numpy(7, 0, 5 ^ (1 << bit), ids)
        assert abs(np.bitwise_count(plain ^ flipped).mean() - 32) < 0.5
        flipped = noise.bits_numpy(7, 0, 5, ids ^ (1 << bit))
        assert abs(np.bitwise_count(plain ^ flipped).mean() - 32) < 0.5


def test_gumbel_noise_has_the_moments_of_its_law() -> None:
    gumbel = noise.gumbel_numpy(3, Stream.DRAFTER, 1, np.arange(NUM_SAMPLES), 9)

    # Mean is Euler's constant, variance pi^2 / 6; five standard deviations of each estimate.
    assert abs(gumbel.mean() - np.euler_gamma) < 5 * 1.283 / NUM_SAMPLES**0.5
    assert abs(gumbel.var() - np.pi**2 / 6) < 5 * 3.5 / NUM_SAMPLES**0.5
