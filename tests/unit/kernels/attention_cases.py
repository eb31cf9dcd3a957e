"""Rows of odd lengths over a pool whose other slots hold NaN; shared by the tests of attention and compaction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from polydraft_kernels.kv_pools import KVPools
from torch import Tensor

LENGTHS = (1, 63, 64, 65, 200, 256, 257, 320)
"""Around a tile of 64 and a split of 256 positions."""
TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 2e-6, torch.float16: 2e-6}
"""Of outputs around 1, computed in float32 from the same inputs: a few units of its last place."""


@dataclass(frozen=True, slots=True)
class AttentionShape:
    num_heads: int
    group: int
    key_size: int
    value_size: int
    dtype: torch.dtype
    window: int | None = None
    softcap: float | None = None


SHAPES = {
    "plain": AttentionShape(2, 4, 16, 16, torch.float32),
    "one_head_a_group": AttentionShape(3, 1, 32, 32, torch.bfloat16),
    "odd_sizes": AttentionShape(1, 3, 24, 40, torch.float16),
    "window_and_softcap": AttentionShape(2, 2, 16, 16, torch.bfloat16, window=70, softcap=5.0),
    "window_of_one": AttentionShape(1, 2, 16, 16, torch.float32, window=1),
}


@dataclass(frozen=True, slots=True)
class AttentionCase:
    query_QTD: Tensor
    keys_HSD: Tensor
    values_HSD: Tensor
    slots_TL: Tensor
    lengths_T: Tensor
    scale: float
    window: int | None
    softcap: float | None

    def arguments(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, float, int | None, float | None]:
        tensors = (self.query_QTD, self.keys_HSD, self.values_HSD, self.slots_TL, self.lengths_T)
        return (*tensors, self.scale, self.window, self.softcap)


def make_attention_case(
    shape: AttentionShape, lengths: tuple[int, ...] = LENGTHS, width: int = 320, device: str = "cpu", seed: int = 0
) -> AttentionCase:
    """Rows share some slots, as rows of one tree do, and see them in any order; slot 0 is the trash page."""
    generator = torch.Generator().manual_seed(seed)
    num_rows, num_slots = len(lengths), 2 * width + 2

    def normal(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=generator).to(shape.dtype)

    slots_TL = torch.stack([torch.randperm(num_slots - 2, generator=generator)[:width] + 2 for _ in lengths])
    lengths_T = torch.tensor(lengths)
    slots_TL[torch.arange(width) >= lengths_T[:, None]] = 0
    keys_HSD, values_HSD = (normal(shape.num_heads, num_slots, size) for size in (shape.key_size, shape.value_size))
    keys_HSD[:, :2], values_HSD[:, :2] = float("nan"), float("nan")
    return AttentionCase(
        normal(shape.num_heads * shape.group, num_rows, shape.key_size).to(device),
        keys_HSD.to(device),
        values_HSD.to(device),
        slots_TL.to(device),
        lengths_T.to(device),
        shape.key_size**-0.5,
        shape.window,
        shape.softcap,
    )


def make_pools(device: str = "cpu") -> KVPools:
    """Pools that differ in heads, sizes and dtype."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 50, 16, torch.bfloat16), (3, 50, 5, torch.float16), (1, 50, 24, torch.float32))
    return KVPools.of([torch.randn(h, s, d, generator=generator).to(dtype).to(device) for h, s, d, dtype in shapes])


MOVES: dict[str, list[tuple[int, int]]] = {
    "none": [],
    "one": [(7, 4)],
    "a_target_is_an_earlier_source": [(12, 10), (13, 11), (15, 12), (16, 13), (20, 14)],
    "two_sessions_and_padding": [(5, 3), (9, 4), (33, 30), (34, 31), (0, 0), (0, 0), (0, 0)],
    "longer_than_a_chunk": [(position + 9, position) for position in range(2, 40)],
}
"""(from, to), in order of depth."""
