"""The reference of the fixed-tile linear layer against float64."""

from __future__ import annotations

import pytest
import torch
from polydraft_kernels import ops

from tests.unit.kernels.linear_cases import SIZES, TOLERANCES, make_linear_case


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("size", SIZES)
def test_equals_float64(size: str, dtype: torch.dtype) -> None:
    rows_RI, weight_OI, bias_O = make_linear_case(5, *SIZES[size], dtype)
    assert bias_O is not None

    expected_RO = rows_RI.double() @ weight_OI.double().T + bias_O.double()

    found_RO = ops.fixed_linear(rows_RI, weight_OI, bias_O).double()
    torch.testing.assert_close(found_RO, expected_RO, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])
