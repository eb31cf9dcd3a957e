"""The KV tensors. Pages are rows of one flat pool per layer; `commit` is the only place that moves KV.

Shape letters: H KV heads, S slots of the pool, D head size, T packed rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LayerShape:
    """KV shape of one attention layer; heads are those of this rank."""

    num_heads: int
    key_size: int
    value_size: int


class KVCache:
    """Keys [H, S, D] and values [H, S, D] of each layer, addressed by slot = page * page_size + offset."""

    def __init__(
        self, layers: Sequence[LayerShape], num_pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        num_slots = num_pages * page_size
        self.page_size = page_size
        self.keys = [
            torch.zeros(layer.num_heads, num_slots, layer.key_size, dtype=dtype, device=device) for layer in layers
        ]
        self.values = [
            torch.zeros(layer.num_heads, num_slots, layer.value_size, dtype=dtype, device=device) for layer in layers
        ]

    def write(self, layer: int, slots_T: Tensor, keys_HTD: Tensor, values_HTD: Tensor) -> None:
        """Store the rows of a step; slots that occur twice (the trash page) hold any of them."""
        self.keys[layer].index_copy_(1, slots_T, keys_HTD)
        self.values[layer].index_copy_(1, slots_T, values_HTD)

    def move(self, from_slots_T: Tensor, to_slots_T: Tensor) -> None:
        """Copy slots in all layers; sources are read before any is overwritten."""
        for pool in (*self.keys, *self.values):
            pool.index_copy_(1, to_slots_T, pool.index_select(1, from_slots_T))

    def read(self, layer: int, slots_T: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of some slots, [H, T, D] each (copies)."""
        return self.keys[layer].index_select(1, slots_T), self.values[layer].index_select(1, slots_T)
