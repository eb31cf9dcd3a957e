"""The reference choices against brute force in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from polydraft_kernels import noise
from polydraft_kernels.packing import MIN_TEMPERATURE, SamplingRows
from polydraft_kernels.reference.choose_coupled import choose_coupled
from polydraft_kernels.reference.choose_greedy import choose_greedy
from polydraft_kernels.reference.support import (
    support_ends,
    support_ends_of_all_rows,
    support_mask,
    target_probs,
)
from torch import Tensor


def rules(
    num_rows: int, temperature: float, top_k: int = 0, top_p: float = 1.0, seed: int = 5, position: int = 30
) -> SamplingRows:
    positions = [position + row for row in range(num_rows)]
    return SamplingRows.build(
        [temperature] * num_rows, [top_k] * num_rows, [top_p] * num_rows, [seed] * num_rows, positions
    )


def tied_logits(num_rows: int, vocab_size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(vocab_size)
    return (torch.randn(num_rows, vocab_size, generator=generator) * 2).round(decimals=1).to(dtype)


def brute_force_law(logits: list[float], temperature: float, top_k: int, top_p: float) -> dict[int, float]:
    """Token -> probability after all transforms."""
    if temperature == 0:
        return {logits.index(max(logits)): 1.0}
    order = sorted(range(len(logits)), key=lambda token: (-logits[token], token))[: top_k or None]
    weights = [math.exp((logits[token] - logits[order[0]]) / temperature) for token in order]
    kept = len(order)
    if top_p < 1:
        kept = next(num + 1 for num in range(len(order)) if math.fsum(weights[: num + 1]) >= top_p * math.fsum(weights))
    total = math.fsum(weights[:kept])
    return {token: weight / total for token, weight in zip(order[:kept], weights[:kept], strict=True)}


TRANSFORMS = [
    (1.0, 0, 1.0),
    (0.7, 3, 1.0),
    (1.3, 0, 0.6),
    (1.0, 5, 0.8),
    (0.5, 1, 0.1),
    (2.0, 500, 0.999),
    (0.0, 3, 0.5),
]


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), TRANSFORMS)
@pytest.mark.parametrize("vocab_size", [1, 5, 67])
def test_target_law_is_that_of_the_transforms_in_order(
    vocab_size: int, temperature: float, top_k: int, top_p: float
) -> None:
    logits_TV = tied_logits(9, vocab_size)

    probs_TV = target_probs(logits_TV, rules(9, temperature, top_k, top_p))

    for row in range(9):
        expected = brute_force_law(logits_TV[row].tolist(), temperature, top_k, top_p)
        found = {token: probability for token, probability in enumerate(probs_TV[row].tolist()) if probability > 0}
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), TRANSFORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_coupled_choice_is_the_argmax_of_log_probability_and_noise(
    dtype: torch.dtype, temperature: float, top_k: int, top_p: float
) -> None:
    logits_TV = tied_logits(20, 67, dtype)

    choices_T = choose_coupled(logits_TV, rules(20, temperature, top_k, top_p, seed=2**64 - 7))

    for row in range(20):
        law = brute_force_law(logits_TV[row].tolist(), temperature, top_k, top_p)
        ids = np.array(sorted(law))
        gumbel = noise.gumbel_numpy(2**64 - 7, noise.Stream.SHARED, 30 + row, ids)
        scores = [math.log(law[int(token)]) + number for token, number in zip(ids, gumbel, strict=True)]
        assert int(choices_T[row]) == int(ids[int(np.argmax(scores))])


def test_greedy_takes_the_lowest_id_of_a_tie() -> None:
    logits_TV = torch.tensor([[0.0, 2.0, 2.0], [1.0, 1.0, 1.0], [0.0, -1.0, 3.0]])

    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert choose_greedy(logits_TV.to(dtype)).tolist() == [1, 0, 2]


def test_values_that_differ_only_beyond_bfloat16_tie() -> None:
    logits_TV = torch.tensor([[1.0, 1.0 + 2**-10]])

    assert choose_greedy(logits_TV).tolist() == [1]
    assert choose_greedy(logits_TV.bfloat16()).tolist() == [0]


def test_nan_and_infinite_rows_give_a_token() -> None:
    nan, inf = float("nan"), float("inf")
    logits_TV = torch.tensor([[nan, nan, nan], [nan, -5.0, nan], [-inf, -inf, -inf], [0.0, inf, 1.0]])

    for rows in (rules(4, 1.0), rules(4, 1.0, top_k=2, top_p=0.5), rules(4, 0.0)):
        assert choose_coupled(logits_TV, rows).tolist() == [0, 1, 0, 1]


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    """Greedy, plain and truncated rows in one batch, at every place, give what each gives alone."""
    num_rows, vocab_size = 40, 3001
    logits_TV = tied_logits(num_rows, vocab_size, torch.bfloat16)
    rows = SamplingRows.build(
        [(0.0, 0.8, 1.1)[row % 3] for row in range(num_rows)],
        [(0, 0, 7, 50)[row % 4] for row in range(num_rows)],
        [(1.0, 0.9, 1.0, 1.0, 0.5)[row % 5] for row in range(num_rows)],
        list(range(num_rows)),
        [9 * row for row in range(num_rows)],
    )

    together = choose_coupled(logits_TV, rows).tolist()
    alone = [
        int(choose_coupled(logits_TV[row : row + 1], rows.select(slice(row, row + 1)))[0]) for row in range(num_rows)
    ]

    assert together == alone


def test_promises_of_the_builder_hold_only_where_they_are_true() -> None:
    assert not rules(2, 0.0, top_k=5).may_sample
    assert rules(2, 0.5).may_sample
    assert not rules(2, 0.5).may_truncate
    assert rules(2, 0.5, top_k=5).may_truncate
    assert rules(2, 0.5, top_p=0.9).may_truncate


def test_support_keeps_the_lowest_ids_among_equal_logits() -> None:
    logits_TV = torch.tensor([[1.0, 3.0, 1.0, 1.0, 0.0]])
    rows = rules(1, 1.0, top_k=3)

    ends = support_ends(logits_TV, rows)

    assert ends is not None
    assert support_mask(logits_TV, ends).tolist() == [[True, True, True, False, False]]


@pytest.mark.parametrize("vocab_size", [1, 67])
def test_ends_found_without_asking_the_device_give_the_same_support(vocab_size: int) -> None:
    logits_TV = tied_logits(30, vocab_size)
    logits_TV[3, : vocab_size // 2] = float("nan")
    logits_TV[4] = float("-inf")
    rows = SamplingRows.build(
        [(0.8, 1.0, 0.0)[row % 3] for row in range(30)],
        [(0, 3, 0, 500)[row % 4] for row in range(30)],
        [(1.0, 0.7, 1.0, 0.9, 1.0)[row % 5] for row in range(30)],
        [0] * 30,
        [0] * 30,
    )

    ends, ends_of_all = support_ends(logits_TV, rows), support_ends_of_all_rows(logits_TV, rows)

    assert ends is not None and ends_of_all is not None
    sampled_T = rows.temperature_T > 0
    kept_TV, kept_of_all_TV = support_mask(logits_TV, ends), support_mask(logits_TV, ends_of_all)
    assert torch.equal(kept_TV[sampled_T], kept_of_all_TV[sampled_T])
    # A greedy row keeps its choice, which is the first in order.
    greedy_TV = logits_TV[~sampled_T].masked_fill(~kept_of_all_TV[~sampled_T], float("-inf"))
    assert choose_greedy(greedy_TV).tolist() == choose_greedy(logits_TV[~sampled_T]).tolist()


def test_a_tiny_temperature_is_greedy() -> None:
    logits_TV = torch.tensor([[1.0, 4.0, 2.0], [9.0, 4.0, 2.0]])

    assert choose_coupled(logits_TV, rules(2, MIN_TEMPERATURE / 1000)).tolist() == [1, 0]


def test_no_rows_give_no_choices() -> None:
    assert choose_greedy(torch.empty(0, 7)).shape == (0,)
    assert choose_coupled(torch.empty(0, 7), rules(0, 0.5)).shape == (0,)
