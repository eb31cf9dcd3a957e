"""The choice by screen is that of float64 on every row, also where float32 alone would choose another token."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from polydraft_kernels import noise
from polydraft_kernels.noise_rows import hashed_vocabulary
from polydraft_kernels.packing import SamplingRows
from polydraft_kernels.reference import screened_choice
from polydraft_kernels.reference.choose_coupled import choose_coupled, choose_in_float64
from polydraft_kernels.reference.screened_choice import NOT_CHOSEN, choose_screened

from tests.unit.kernels.screen_cases import near_ties, random_rows, sampled_rows

VOCAB_SIZE = 2001


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("spread", "offset"), [(3.0, 0.0), (0.0, 0.0), (1e-3, 50.0), (30.0, -1e4), (100.0, 0.0)])
def test_equals_float64_on_random_rows(spread: float, offset: float, dtype: torch.dtype) -> None:
    for seed in range(10):
        logits_TV, rows = random_rows(VOCAB_SIZE, spread, offset, seed)
        logits_TV = logits_TV.to(dtype)

        assert choose_coupled(logits_TV, rows).tolist() == choose_in_float64(logits_TV, rows).tolist()


@pytest.mark.parametrize("temperature", [1e-3, 0.5, 1.0, 8.0])
def test_equals_float64_where_all_scores_nearly_tie(temperature: float) -> None:
    num_by_float32 = 0
    for seed in range(40):
        logits_TV, rows = near_ties(VOCAB_SIZE, temperature, seed)
        expected_T = choose_in_float64(logits_TV, rows)

        assert choose_screened(logits_TV, rows).tolist() == expected_T.tolist()
        noise_TV = screened_gumbel_float32(rows, VOCAB_SIZE)
        by_float32_T = (logits_TV / rows.temperature_T[:, None].float() + noise_TV).argmax(dim=1)
        num_by_float32 += int((by_float32_T == expected_T).sum())
    assert num_by_float32 < 300, "the rows are not hard: float32 alone finds nearly all of the 320 choices"


def screened_gumbel_float32(rows: SamplingRows, vocab_size: int) -> torch.Tensor:
    uniform_TV = torch.stack(
        [
            torch.from_numpy(noise.uniform_numpy(int(key), noise.Stream.SHARED, int(position), np.arange(vocab_size)))
            for key, position in zip(rows.keys_T, rows.positions_T, strict=True)
        ]
    )
    return -torch.log(-torch.log(uniform_TV.float().clamp_max(1 - 2**-24)))


def test_counts_are_exact_to_less_than_four() -> None:
    states_S = np.array([noise.row_state(3, 0, position) for position in range(30)], np.uint64)
    hashed_V = hashed_vocabulary(VOCAB_SIZE, torch.device("cpu")).numpy().view(np.uint64)

    counts_SV = screened_choice._counts(states_S, hashed_V).astype(np.float64)

    bits_SV = noise.mix_in_place(states_S[:, None] + hashed_V)
    exact_SV = (2.0**64 - bits_SV.astype(np.float64)) * 2.0**-32
    # A half of float32's last place on top, from the conversion.
    assert (np.abs(counts_SV - exact_SV) < 4.0 + exact_SV * 2.0**-24).all()


def test_few_tokens_are_scored_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    num_scored: list[int] = []
    real = noise.gumbel_of_bits

    def counting(bits: noise.UInt64s) -> noise.Float64s:
        num_scored.append(len(bits))
        return real(bits)

    monkeypatch.setattr(noise, "gumbel_of_bits", counting)
    logits_TV = torch.randn(200, VOCAB_SIZE, generator=torch.Generator().manual_seed(0)) * 3

    choose_screened(logits_TV, sampled_rows([0.8] * 200, 5))

    assert 200 <= sum(num_scored) < 3 * 200


def test_rows_beyond_the_bound_are_left_to_float64() -> None:
    logits_TV = torch.zeros(5, 100)
    logits_TV[0, 3] = float("nan")
    logits_TV[1, 4] = float("inf")
    logits_TV[2] = float("-inf")
    logits_TV[3, 5:7] = 3e38
    rows = sampled_rows([1.0] * 5, 1)

    choices = choose_screened(logits_TV, rows).tolist()

    assert choices[:4] == [NOT_CHOSEN] * 4
    assert choices[4] == int(choose_in_float64(logits_TV, rows)[4])
    assert choose_coupled(logits_TV, rows).tolist() == choose_in_float64(logits_TV, rows).tolist()


def test_a_vocabulary_larger_than_the_scratch_is_screened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screened_choice, "ELEMENTS_AT_ONCE", 1 << 10)
    logits_TV, rows = random_rows((1 << 16) + 3, 3.0, 0.0, seed=2)

    assert choose_screened(logits_TV, rows).tolist() == choose_in_float64(logits_TV, rows).tolist()
