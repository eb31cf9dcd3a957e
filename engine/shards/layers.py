"""Linear layers of which each rank holds a part. TorchScript compiles their `forward`s (see `engine.lean_decoder`).

Sums over ranks are gathered and added in the order of the ranks: a reduction of the library's adds in an order that may
depend on how much there is to add, and a row would get other bits in another step.

Shape letters: R rows, I inputs, O outputs, N ranks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.shards.group import ShardGroup


def _gathered(rows: Tensor, size: int, group: str) -> Tensor:
    """The rows [..., O] of all ranks, [N, *, O]."""
    flat = rows.reshape(-1, rows.shape[-1])
    gathered = torch.ops._c10d_functional.all_gather_into_tensor(flat, size, group)
    all_NRO: Tensor = torch.ops._c10d_functional.wait_tensor(gathered).view(size, -1, rows.shape[-1])
    return all_NRO


class RowParallelLinear(nn.Module):
    """A layer whose inputs are split: each rank multiplies its own, and all add up what comes of it."""

    def __init__(self, linear: nn.Linear, group: ShardGroup, *, splits_input: bool) -> None:
        super().__init__()
        self.size, self.group = group.size, group.name
        self.start = group.rank * -(-linear.in_features // group.size) if splits_input else 0
        self.splits_input = splits_input
        """Whether the input is whole and this rank's columns are to be taken of it."""
        self.num_inputs = linear.weight.shape[1]
        self.bias = None if linear.bias is None else linear.bias.detach()
        linear.register_parameter("bias", None)
        linear.in_features = self.num_inputs
        self.linear: nn.Module = linear
        """May be replaced by another form of itself (see `engine.linears`)."""

    def forward(self, rows: Tensor) -> Tensor:
        """This rank's [..., I], or the whole input -> [..., O], the same at each rank."""
        if self.splits_input:
            rows = rows[..., self.start : self.start + self.num_inputs]
        partial: Tensor = self.linear(rows)
        parts_NRO = _gathered(partial, self.size, self.group)
        total_RO = parts_NRO[0].float()
        for rank in range(1, self.size):
            total_RO = total_RO + parts_NRO[rank]
        if self.bias is not None:
            total_RO = total_RO + self.bias
        return total_RO.view(partial.shape).to(partial.dtype)


class GatheredLinear(nn.Module):
    """A layer whose outputs are split and then gathered: each rank gets all of them."""

    def __init__(self, linear: nn.Linear, num_outputs: int, group: ShardGroup) -> None:
        super().__init__()
        self.size, self.group = group.size, group.name
        self.out_features = num_outputs
        # The last rank may hold fewer outputs than the others, but all must send alike.
        missing = -(-num_outputs // group.size) - linear.weight.shape[0]
        if missing:
            linear.weight = nn.Parameter(F.pad(linear.weight, (0, 0, 0, missing)), requires_grad=False)
            if linear.bias is not None:
                linear.bias = nn.Parameter(F.pad(linear.bias, (0, missing)), requires_grad=False)
        linear.out_features = linear.weight.shape[0]
        self.linear: nn.Module = linear
        """Likewise."""

    def forward(self, rows: Tensor) -> Tensor:
        """[..., I] -> [..., O]."""
        part: Tensor = self.linear(rows)
        parts_NRO = _gathered(part, self.size, self.group)
        whole_RO = parts_NRO.transpose(0, 1).reshape(-1, self.size * part.shape[-1])[:, : self.out_features]
        return whole_RO.reshape(rows.shape[:-1] + whole_RO.shape[1:])
