"""Linear layers of odd sizes; shared by interpreter and GPU tests."""

from __future__ import annotations

import torch
from torch import Tensor

ROW_COUNTS = (1, 2, 5, 17, 63, 64, 65)
"""Around a tile of 64 rows."""
SIZES = {"small": (40, 24), "one_input_tile": (128, 16), "odd": (131, 37), "several_tiles": (300, 80)}
"""Inputs and outputs."""
TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}
"""Relative; float32 sums in another order, and one rounding of the result to 24, 8 or 11 bits."""


def make_linear_case(
    num_rows: int,
    num_inputs: int,
    num_outputs: int,
    dtype: torch.dtype,
    device: str = "cpu",
    seed: int = 0,
    *,
    has_bias: bool = True,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Rows, weight and bias; the rows are columns of a wider tensor, as some of the engine's are."""
    generator = torch.Generator().manual_seed(seed)
    wide = torch.randn(num_rows, num_inputs + 8, generator=generator).to(dtype).to(device)
    weight_OI = (torch.randn(num_outputs, num_inputs, generator=generator) * num_inputs**-0.5).to(dtype).to(device)
    bias_O = torch.randn(num_outputs, generator=generator).to(dtype).to(device)
    return wide[:, :num_inputs], weight_OI, bias_O if has_bias else None
