"""The KV tensors. Pages are runs of slots of one pool; `commit` is the only place that moves KV.

Shape letters: N layers, S slots of the pool, E elements of a slot in one layer, H KV heads, D head size, T packed rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from polydraft_kernels import ops
from polydraft_kernels.kv_pools import KVPools
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LayerShape:
    """KV shape of one attention layer; heads are those of this rank."""

    num_heads: int
    key_size: int
    value_size: int

    @property
    def num_elements(self) -> int:
        """Of one slot: the keys of all heads, then their values."""
        return self.num_heads * (self.key_size + self.value_size)


class KVCache:
    """Keys and values of each layer, addressed by slot = page * page_size + offset.

    One tensor [N, S, E]: a slot's keys and values lie together, so that one gather reads both, and one call moves a
    slot in all layers.
    """

    def __init__(
        self, layers: Sequence[LayerShape], num_pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.page_size = page_size
        self.layers = tuple(layers)
        widest = max(layer.num_elements for layer in layers)
        self._pool_NSE = torch.zeros(len(layers), num_pages * page_size, widest, dtype=dtype, device=device)
        self.slots = tuple(self._pool_NSE[i, :, : layer.num_elements] for i, layer in enumerate(layers))
        """Of each layer, [S, E]: keys [H, D], then values [H, D]."""
        halves = [half for layer in range(len(layers)) for half in (self.keys(layer), self.values(layer))]
        self._views = KVPools.of(halves) if device.type == "cuda" else None
        """For the kernel; None: torch moves slots."""

    def keys(self, layer: int) -> Tensor:
        """[H, S, D], a view."""
        shape = self.layers[layer]
        return self._heads(self.slots[layer][:, : shape.num_heads * shape.key_size], shape.key_size)

    def values(self, layer: int) -> Tensor:
        """[H, S, D], a view."""
        shape = self.layers[layer]
        return self._heads(self.slots[layer][:, shape.num_heads * shape.key_size :], shape.value_size)

    def write(self, layer: int, slots_T: Tensor, rows_TE: Tensor) -> None:
        """Store the rows of a step; slots that occur twice (the trash page) hold any of them."""
        self.slots[layer].index_copy_(0, slots_T, rows_TE)

    def move(self, from_slots_T: Tensor, to_slots_T: Tensor) -> None:
        """Copy slots in all layers; no target may be the source of a later move, nor the target of another."""
        if self._views is not None:
            ops.compact_kv(self._views, from_slots_T, to_slots_T)
        else:
            self._pool_NSE.index_copy_(1, to_slots_T, self._pool_NSE.index_select(1, from_slots_T))

    def read(self, layer: int, slots_T: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of some slots, [H, T, D] each (copies)."""
        return self.keys(layer).index_select(1, slots_T), self.values(layer).index_select(1, slots_T)

    @staticmethod
    def _heads(slots_SE: Tensor, head_size: int) -> Tensor:
        return slots_SE.view(slots_SE.shape[0], -1, head_size).transpose(0, 1)
