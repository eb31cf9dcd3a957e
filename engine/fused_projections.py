"""Projections of one input computed as one product: query, key and value; gate and up.

One wide product costs less than three narrow ones, and on small steps the calls themselves count. The modules of the
model stay where they are; each hands out its columns of the product that the first of them has computed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

GROUPS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names under which the families of transformers keep projections of the same input."""
_SAMPLE_ROWS = 5
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.02, torch.float16: 0.005}
"""Of the largest output. The wide product may add in another order."""


class FusedProjections(nn.Module):
    """The wide product of one group. `linear` may be replaced by another form of itself (see `engine.linears`)."""

    def __init__(self, parts: Sequence[nn.Linear]) -> None:
        super().__init__()
        first = parts[0]
        self.linear: nn.Module = nn.Linear(
            first.in_features,
            sum(part.out_features for part in parts),
            bias=first.bias is not None,
            device="meta",
            dtype=first.weight.dtype,
        )
        self.linear.weight = nn.Parameter(torch.cat([part.weight for part in parts]), requires_grad=False)
        if first.bias is not None:
            self.linear.bias = nn.Parameter(torch.cat([part.bias for part in parts]), requires_grad=False)
        self._input: Tensor | None = None
        self._output: Tensor | None = None

    def forward(self, rows: Tensor) -> Tensor:
        """[..., I] -> [..., sum of O]; computed once as long as the same tensor is given."""
        if rows is not self._input or self._output is None:
            self._input, self._output = rows, self.linear(rows)
        return self._output


class ProjectionPart(nn.Module):
    """Stands where one of the group's layers stood."""

    def __init__(self, fused: FusedProjections, start: int, end: int) -> None:
        super().__init__()
        self.fused = fused
        self._start, self._end = start, end

    def forward(self, rows: Tensor) -> Tensor:
        """[..., I] -> [..., O], a view of the wide product."""
        output: Tensor = self.fused(rows)[..., self._start : self._end]
        return output

    def extra_repr(self) -> str:
        return f"columns {self._start} to {self._end}"


@torch.inference_mode()
def fuse_projections(model: nn.Module) -> int:
    """Fuse every group whose wide product gives the same rows; the number of those fused.

    The others stay, with a line in the log.
    """
    num_fused = 0
    for name, module in list(model.named_modules()):
        for group in GROUPS:
            parts = [getattr(module, part, None) for part in group]
            if None in parts:
                continue
            reason = _fuse(module, group, parts)
            if reason is None:
                num_fused += 1
            else:
                logger.warning("%s: %s are not fused: %s", name, ", ".join(group), reason)
    return num_fused


def _fuse(module: nn.Module, names: Sequence[str], parts: Sequence[nn.Module | None]) -> str | None:
    """Replace the layers, or say why not."""
    linears = [part for part in parts if type(part) is nn.Linear]
    if len(linears) != len(parts):
        return "they are not all plain linear layers"
    if len({(linear.in_features, linear.bias is None, linear.weight.dtype) for linear in linears}) != 1:
        return "their inputs, biases or dtypes differ"
    fused = FusedProjections(linears)
    starts = [sum(linear.out_features for linear in linears[:count]) for count in range(len(linears) + 1)]
    replacements = [ProjectionPart(fused, *bounds) for bounds in pairwise(starts)]
    if not all(map(_agree, linears, replacements)):
        return "the wide product gives other rows"
    for name, replacement in zip(names, replacements, strict=True):
        setattr(module, name, replacement)
    return None


def _agree(linear: nn.Linear, part: ProjectionPart) -> bool:
    weight = linear.weight
    generator = torch.Generator().manual_seed(0)
    rows_RI = torch.randn(_SAMPLE_ROWS, linear.in_features, generator=generator).to(weight.device, weight.dtype)
    expected_RO, found_RO = linear(rows_RI).float(), part(rows_RI).float()
    allowed = _TOLERANCE.get(weight.dtype, 0.0) * expected_RO.abs().max()
    return bool((expected_RO - found_RO).abs().max() <= allowed)
