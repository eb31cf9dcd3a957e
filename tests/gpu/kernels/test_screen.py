"""The coupled choice on a CUDA device against float64 on CPU, on rows that float32 cannot choose from."""

from __future__ import annotations

import pytest
from polydraft_kernels import ops
from polydraft_kernels.reference.choose_coupled import choose_in_float64

from tests.unit.kernels.screen_cases import near_ties, on_device, random_rows

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("temperature", [1e-3, 0.5, 1.0, 8.0])
def test_loses_nothing_where_all_scores_nearly_tie(temperature: float) -> None:
    for seed in range(40):
        logits_TV, rows = near_ties(32_001, temperature, seed)

        choices_T = ops.choose_coupled(logits_TV.cuda(), on_device(rows, "cuda"), "triton")

        assert choices_T.tolist() == choose_in_float64(logits_TV, rows).tolist()


@pytest.mark.parametrize(("spread", "offset"), [(3.0, 0.0), (1e-3, 50.0), (1e37, 0.0), (30.0, -1e4), (1e33, -3e38)])
def test_loses_nothing_at_any_size_of_score(spread: float, offset: float) -> None:
    for seed in range(20):
        logits_TV, rows = random_rows(151_936, spread, offset, seed)

        choices_T = ops.choose_coupled(logits_TV.cuda(), on_device(rows, "cuda"), "triton")

        assert choices_T.tolist() == choose_in_float64(logits_TV, rows).tolist()
