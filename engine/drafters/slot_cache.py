"""Keys and values of a small model: one dense stretch a sequence, grown when sequences or positions outgrow it.

A position may be written again at any time; readers mask what lies behind their own position, so rolling back needs no
call here.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Shape letters: S slots, P positions, T rows, B sequences, L positions read, G key-value heads, H head size


class SlotCache:
    """`[S, P + 1, 2 G, H]` a layer, keys before values; the last position takes the writes of padding rows."""

    def __init__(
        self, num_layers: int, num_kv_heads: int, head_size: int, max_positions: int, dtype: torch.dtype, device: str
    ) -> None:
        self._max_positions = max_positions
        num_positions = min(256, max_positions)
        shape = (4, num_positions + 1, 2 * num_kv_heads, head_size)
        self._layers_SPGH = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(num_layers)]
        self._free = list(range(shape[0]))

    @property
    def num_slots(self) -> int:
        return self._layers_SPGH[0].shape[0]

    @property
    def trash_position(self) -> int:
        return self._layers_SPGH[0].shape[1] - 1

    @property
    def num_free(self) -> int:
        return len(self._free)

    def allocate(self) -> int:
        """A slot for one sequence."""
        if not self._free:
            num_slots = self.num_slots
            self._resize(2 * num_slots, self.trash_position)
            self._free = list(range(num_slots, 2 * num_slots))
        return self._free.pop()

    def release(self, slot: int) -> None:
        self._free.append(slot)

    def reserve(self, num_positions: int) -> None:
        """Make room for sequences this long; positions handed out before stay where they are."""
        if num_positions > self.trash_position:
            self._resize(self.num_slots, min(self._max_positions, max(num_positions, 2 * self.trash_position)))

    def write_one(self, layer: int, slot: int, start: int, kv_TGH: Tensor) -> None:
        """Consecutive positions of one sequence."""
        self._layers_SPGH[layer][slot, start : start + kv_TGH.shape[0]] = kv_TGH

    def write(self, layer: int, slots_T: Tensor, positions_T: Tensor, kv_TGH: Tensor) -> None:
        """One position a row, rows of any sequences."""
        self._layers_SPGH[layer].index_put_((slots_T, positions_T), kv_TGH)

    def read_one(self, layer: int, slot: int, length: int) -> Tensor:
        """The first positions of one sequence, `[1, L, 2 G, H]`, a view."""
        return self._layers_SPGH[layer][slot : slot + 1, :length]

    def read(self, layer: int, slots_B: Tensor, length: int) -> Tensor:
        """The first positions of several sequences, `[B, L, 2 G, H]`, a copy."""
        return self._layers_SPGH[layer][:, :length].index_select(0, slots_B)

    def _resize(self, num_slots: int, num_positions: int) -> None:
        for layer, old_SPGH in enumerate(self._layers_SPGH):
            old_slots, old_positions = old_SPGH.shape[0], old_SPGH.shape[1] - 1
            new_SPGH = old_SPGH.new_zeros((num_slots, num_positions + 1, *old_SPGH.shape[2:]))
            new_SPGH[:old_slots, :old_positions] = old_SPGH[:, :old_positions]
            self._layers_SPGH[layer] = new_SPGH
