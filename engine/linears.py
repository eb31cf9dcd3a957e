"""Linear layers whose bf16 weights lie in memory as oneDNN's kernels read them.

`torch.nn.Linear` hands oneDNN a plain matrix, which its kernels read worse than one in their own order. Packed once at
load, the demo target's products take 1.3 to 1.5 times less for 1 to 16 rows on a CPU with AVX512_BF16
(`python -m benchmarks.linears`).

Shape letters: R sample rows, I inputs, O outputs.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

_SAMPLE_ROWS = 5
_TOLERANCE = 0.02
"""Of the largest output. Both products add in fp32 and round once to bf16, in another order."""


class PackedLinear(nn.Module):
    """Computes what the `nn.Linear` computes that it was made from; without the weight as a parameter."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, rows: Tensor) -> Tensor:
        """[..., I] -> [..., O], bf16."""
        output: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._packed, self._bias, "none", [], "")
        return output

    def add_to(self, residual: Tensor, rows: Tensor) -> Tensor:
        """`residual` [..., O] plus the product, rounded once."""
        output: Tensor = torch.ops.mkldnn._linear_pointwise.binary(rows, residual, self._packed, self._bias, "add")
        return output

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


def can_pack(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether this build of torch and this processor have the kernels. fp32 products rearrange nothing."""
    if device.type != "cpu" or dtype != torch.bfloat16 or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def add_product(residual: Tensor, rows: Tensor, linear: nn.Module) -> Tensor:
    """`residual` [..., O] plus the layer's product of `rows` [..., I]."""
    if isinstance(linear, PackedLinear):
        return linear.add_to(residual, rows)
    product: Tensor = linear(rows)
    return residual + product


@torch.inference_mode()
def pack_linears(model: nn.Module) -> int:
    """Replace every plain linear layer whose packed form gives the same rows; the number of those replaced.

    The others stay, with a line in the log.
    """
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear
    ]
    num_packed = 0
    for parent, name, linear in found:
        packed = PackedLinear(linear)
        if _agree(linear, packed):
            setattr(parent, name, packed)
            num_packed += 1
        else:
            logger.warning("%s.%s is not packed: its rows would be others", type(parent).__name__, name)
    return num_packed


def _agree(linear: nn.Linear, packed: PackedLinear) -> bool:
    generator = torch.Generator().manual_seed(0)
    rows_RI = torch.randn(_SAMPLE_ROWS, linear.in_features, generator=generator).to(linear.weight.dtype)
    expected_RO, found_RO = linear(rows_RI).float(), packed(rows_RI).float()
    return bool((expected_RO - found_RO).abs().max() <= _TOLERANCE * expected_RO.abs().max())
