"""The fixed-tile linear layer on a CUDA device against the reference on CPU, and its promise."""

from __future__ import annotations

import pytest
import torch
from polydraft_kernels import ops

from tests.unit.kernels.linear_cases import ROW_COUNTS, SIZES, TOLERANCES, make_linear_case

pytestmark = pytest.mark.gpu

LARGE = {"projection": (4096, 4096), "gate_up": (4096, 22_016), "down": (11_008, 4096), "head": (4096, 32_001)}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_reference(size: str, dtype: torch.dtype) -> None:
    on_device = make_linear_case(65, *SIZES[size], dtype, "cuda")
    on_cpu = make_linear_case(65, *SIZES[size], dtype)

    found_RO = ops.fixed_linear(*on_device, backend="triton")

    tolerance = TOLERANCES[dtype]
    torch.testing.assert_close(found_RO.cpu(), ops.fixed_linear(*on_cpu), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", LARGE)
def test_a_row_has_the_same_bits_among_any_number_of_rows(size: str, dtype: torch.dtype) -> None:
    rows_RI, weight_OI, bias_O = make_linear_case(300, *LARGE[size], dtype, "cuda")
    whole_RO = ops.fixed_linear(rows_RI, weight_OI, bias_O, backend="triton")

    for count in ROW_COUNTS:
        for start in (0, 1, 150, 300 - count):
            some = slice(start, start + count)
            assert torch.equal(ops.fixed_linear(rows_RI[some], weight_OI, bias_O, backend="triton"), whole_RO[some])
