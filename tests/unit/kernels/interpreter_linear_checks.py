"""The fixed-tile linear layer in Triton's interpreter; run like `interpreter_checks`."""

from __future__ import annotations

import pytest
import torch
from polydraft_kernels import ops
from polydraft_kernels.triton.fixed_linear import TILE_OUTPUTS, outputs_of_tile

from tests.unit.kernels.linear_cases import ROW_COUNTS, SIZES, TOLERANCES, make_linear_case


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_reference(size: str, dtype: torch.dtype, has_bias: bool) -> None:
    case = make_linear_case(65, *SIZES[size], dtype, has_bias=has_bias)

    found_RO = ops.fixed_linear(*case, backend="triton")

    assert found_RO.dtype == dtype
    tolerance = TOLERANCES[dtype]
    torch.testing.assert_close(found_RO, ops.fixed_linear(*case, backend="reference"), rtol=tolerance, atol=tolerance)


def test_of_no_rows() -> None:
    assert ops.fixed_linear(*make_linear_case(0, 40, 24, torch.float32), backend="triton").shape == (0, 24)


@pytest.mark.parametrize("count", ROW_COUNTS)
def test_rows_that_are_not_there_are_not_written(count: int) -> None:
    rows_RI, weight_OI, bias_O = make_linear_case(70, 131, 37, torch.float32)
    whole_RO = ops.fixed_linear(rows_RI, weight_OI, bias_O, backend="triton")

    torch.testing.assert_close(ops.fixed_linear(rows_RI[:count], weight_OI, bias_O, backend="triton"), whole_RO[:count])


@pytest.mark.parametrize(
    ("num_outputs", "tile"), [(24, 16), (1024, 16), (4095, 16), (4096, 32), (8191, 32), (8192, 64), (152_064, 64)]
)
def test_the_number_of_outputs_alone_chooses_the_tile(num_outputs: int, tile: int) -> None:
    assert outputs_of_tile(num_outputs) == tile
    assert tile in TILE_OUTPUTS
