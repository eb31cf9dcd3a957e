"""Other forms of a model's linear layers: one that is faster on CPUs, one that keeps its rows' bits on CUDA devices.

`PackedLinear`: `torch.nn.Linear` hands oneDNN a plain matrix, which its kernels read worse than one in their own order.
Packed once at load, the demo target's bf16 products take 1.3 to 1.5 times less for 1 to 16 rows on a CPU with
AVX512_BF16 (`python -m benchmarks.linears`).

`FixedTileLinear`: cuBLAS chooses another kernel for another number of rows, and a row comes out in other bits. Where
these are promised (numerics `invariant`) a kernel of fixed tiles takes its place; `python -m benchmarks.gpu` says what
that costs.

Shape letters: R sample rows, I inputs, O outputs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from polydraft_kernels import ops
from torch import Tensor, nn

logger = logging.getLogger(__name__)

_SAMPLE_ROWS = 5
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.02, torch.float16: 0.005}
"""Of the largest output. Both products add in fp32 and round once, in another order."""


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
        output: Tensor = torch.ops.mkldnn._linear_pointwise(rows, residual, self._packed, self._bias, "add")
        return output

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


class FixedTileLinear(nn.Module):
    """Computes what the `nn.Linear` computes that it was made from, each row by itself (see `ops.fixed_linear`)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, rows: Tensor) -> Tensor:
        """[..., I] -> [..., O], in the dtype of the rows."""
        output_RO = ops.fixed_linear(rows.reshape(-1, rows.shape[-1]), self.weight, self.bias)
        return output_RO.view(*rows.shape[:-1], -1)

    def extra_repr(self) -> str:
        return f"in_features={self.weight.shape[1]}, out_features={self.weight.shape[0]}"


def can_pack(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether this build of torch and this processor have the kernels. fp32 products rearrange nothing."""
    if device.type != "cpu" or dtype != torch.bfloat16 or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class SumWithProduct(nn.Module):
    """A residual plus a layer's product of some rows."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, residual: Tensor, rows: Tensor) -> Tensor:
        """[..., O] and [..., I] -> [..., O]."""
        product: Tensor = self.linear(rows)
        return residual + product


class PackedSumWithProduct(nn.Module):
    """The same as one call, which rounds once."""

    def __init__(self, linear: PackedLinear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, residual: Tensor, rows: Tensor) -> Tensor:
        """[..., O] and [..., I] -> [..., O]."""
        return self.linear.add_to(residual, rows)


def sum_with_product(linear: nn.Module) -> nn.Module:
    """What adds the layer's product to a residual."""
    return PackedSumWithProduct(linear) if isinstance(linear, PackedLinear) else SumWithProduct(linear)


def pack_linears(model: nn.Module) -> int:
    """Replace every plain linear layer whose packed form gives the same rows; the number of those replaced."""
    return _replace_linears(model, PackedLinear)


def fix_tiles(model: nn.Module) -> int:
    """Likewise with `FixedTileLinear`; those that stay are for the checks at load to judge."""
    return _replace_linears(model, FixedTileLinear)


@torch.inference_mode()
def _replace_linears(model: nn.Module, form: Callable[[nn.Linear], nn.Module]) -> int:
    """Replace every plain linear layer by another form of it. Those that would give other rows stay, with a warning."""
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear
    ]
    num_replaced = 0
    for parent, name, linear in found:
        replacement = form(linear)
        if _agree(linear, replacement):
            setattr(parent, name, replacement)
            num_replaced += 1
        else:
            logger.warning("%s.%s stays a plain layer: its rows would be others", type(parent).__name__, name)
    return num_replaced


def _agree(linear: nn.Linear, replacement: nn.Module) -> bool:
    weight = linear.weight
    generator = torch.Generator().manual_seed(0)
    rows_RI = torch.randn(_SAMPLE_ROWS, linear.in_features, generator=generator).to(weight.device, weight.dtype)
    expected_RO, found_RO = linear(rows_RI).float(), replacement(rows_RI).float()
    return bool((expected_RO - found_RO).abs().max() <= _TOLERANCE[weight.dtype] * expected_RO.abs().max())
