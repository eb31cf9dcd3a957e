"""Keys and values of a small model: one dense stretch a sequence, grown when sequences or places outgrow it.

A place may be written again at any time; readers mask what they must not see, so rolling back needs no
call here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Shape letters: S slots, P places, T rows, B sequences, L places read, G key-value heads, H head size


class SlotCache:
    """`[S, P + 1, 2 G, H]` a layer, keys before values; the last place takes the writes of padding rows."""

    def __init__(
        self, num_layers: int, num_kv_heads: int, head_size: int, max_places: int, dtype: torch.dtype, device: str
    ) -> None:
        self._max_places = max_places
        num_places = min(256, max_places)
        shape = (4, num_places + 1, 2 * num_kv_heads, head_size)
        self._layers_SPGH = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(num_layers)]
        self._free = list(range(shape[0]))

    @property
    def num_slots(self) -> int:
        return self._layers_SPGH[0].shape[0]

    @property
    def trash_place(self) -> int:
        return self._layers_SPGH[0].shape[1] - 1

    @property
    def num_free(self) -> int:
        return len(self._free)

    def allocate(self) -> int:
        """A slot for one sequence."""
        if not self._free:
            num_slots = self.num_slots
            self._resize(2 * num_slots, self.trash_place)
            self._free = list(range(num_slots, 2 * num_slots))
        return self._free.pop()

    @torch.inference_mode()
    def release(self, slot: int) -> None:
        """The next sequence finds zeros: what it masks weighs nothing, but nothing times NaN is NaN."""
        for layer_SPGH in self._layers_SPGH:
            layer_SPGH[slot].zero_()
        self._free.append(slot)

    def reserve(self, num_places: int) -> None:
        """Make room for sequences this long; places handed out before stay where they are."""
        if num_places > self.trash_place:
            self._resize(self.num_slots, min(self._max_places, max(num_places, 2 * self.trash_place)))

    def write_one(self, layer: int, slot: int, start: int, kv_TGH: Tensor) -> None:
        """Consecutive places of one sequence."""
        self._layers_SPGH[layer][slot, start : start + kv_TGH.shape[0]] = kv_TGH

    def write(self, layer: int, slots_T: Tensor, places_T: Tensor, kv_TGH: Tensor) -> None:
        """One place a row, rows of any sequences."""
        self._layers_SPGH[layer].index_put_((slots_T, places_T), kv_TGH)

    def read_one(self, layer: int, slot: int, length: int) -> Tensor:
        """The first places of one sequence, `[1, L, 2 G, H]`, a view."""
        return self._layers_SPGH[layer][slot : slot + 1, :length]

    def read(self, layer: int, slots_B: Tensor, length: int) -> Tensor:
        """The first places of several sequences, `[B, L, 2 G, H]`, a copy."""
        return self._layers_SPGH[layer][:, :length].index_select(0, slots_B)

    @torch.inference_mode()
    def move(self, slot: int, places: Sequence[int], start: int) -> None:
        """Bring places of one sequence together, from `start` on."""
        for layer_SPGH in self._layers_SPGH:
            layer_SPGH[slot, start : start + len(places)] = layer_SPGH[slot, list(places)]

    def _resize(self, num_slots: int, num_places: int) -> None:
        for layer, old_SPGH in enumerate(self._layers_SPGH):
            old_slots, old_places = old_SPGH.shape[0], old_SPGH.shape[1] - 1
            new_SPGH = old_SPGH.new_zeros((num_slots, num_places + 1, *old_SPGH.shape[2:]))
            new_SPGH[:old_slots, :old_places] = old_SPGH[:, :old_places]
            self._layers_SPGH[layer] = new_SPGH
