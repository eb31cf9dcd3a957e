"""A linear layer whose rows do not depend on their number. R rows, I inputs, O outputs."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def fixed_linear(rows_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """`rows_RI @ weight_OI.T + bias_O` [R, O], summed in float32 and rounded once to the rows' dtype.

    Any float dtype, the same for all. The order of additions is free, but it may depend on nothing except the shape and
    dtype of the weight; that much only the kernel promises.
    """
    bias = None if bias_O is None else bias_O.float()
    return F.linear(rows_RI.float(), weight_OI.float(), bias).to(rows_RI.dtype)
