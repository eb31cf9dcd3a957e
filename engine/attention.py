"""Attention over the paged KV whose result for a row depends on the keys that the row sees and on nothing else.

Each row reads its keys as an index list in position order, tile by tile of `TILE` positions from position 0. A tile is
a call of constant inner shape with the rows as batch; tiles merge in order by the online softmax in fp32:

    m' = max(m, m_tile);  acc' = acc * exp(m - m') + acc_tile * exp(m_tile - m');  likewise the normaliser

A tile that a row does not reach adds exactly zero, so neither the other rows of a step, nor their number, nor their
lengths change a bit. Chains, prefill chunks and tree branches differ only in their index lists.

Shape letters: T packed rows, H KV heads, G query heads a KV head, D head size, L index list, P positions of a tile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from engine.kv_cache import KVCache, LayerShape

IMPLEMENTATION = "polydraft_paged"
TILE = 64
"""Positions reduced together. Part of the engine's identity: another value gives other bits."""


@dataclass(slots=True)
class StepContext:
    """Where the rows of one step write and what they see.

    `slots_TL[t, i]` is the slot of the key at position i of row t's sequence (ancestors in depth order for a tree
    node), valid for i < lengths_T[t]; L is a multiple of `TILE`.
    """

    cache: KVCache
    write_slots_T: Tensor
    slots_TL: Tensor
    lengths_T: Tensor
    _masks: dict[tuple[int, int | None], Tensor] = field(default_factory=dict)

    @property
    def num_tiles(self) -> int:
        return self.slots_TL.shape[1] // TILE

    def mask(self, tile: int, window: int | None) -> Tensor:
        """Additive fp32 mask [1, T, 1, P] of one tile; a window counts positions, not slots."""
        if (tile, window) not in self._masks:
            positions_P = torch.arange(tile * TILE, (tile + 1) * TILE, device=self.lengths_T.device)
            visible_TP = positions_P < self.lengths_T[:, None]
            if window is not None:
                visible_TP &= positions_P >= self.lengths_T[:, None] - window
            mask_TP = torch.zeros(visible_TP.shape, device=visible_TP.device).masked_fill_(~visible_TP, -torch.inf)
            self._masks[tile, window] = mask_TP[None, :, None, :]
        return self._masks[tile, window]


@dataclass(slots=True)
class ShapeRecorder:
    """Stands in for a `StepContext` once, to learn the KV shapes of a model from the model itself."""

    layers: dict[int, LayerShape] = field(default_factory=dict)


def paged_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    step: StepContext | ShapeRecorder | None = None,
    **_: Any,  # what transformers passes to other implementations
) -> tuple[Tensor, None]:
    """The attention that transformers calls: query [1, H*G, T, D], key and value [1, H, T, D] -> [1, T, H*G, D]."""
    if s_aux is not None:
        raise NotImplementedError("attention sinks are not supported")
    layer = module.layer_idx
    assert isinstance(layer, int), layer
    if isinstance(step, ShapeRecorder):
        step.layers[layer] = LayerShape(key.shape[1], key.shape[3], value.shape[3])
        return torch.zeros(
            1, query.shape[2], query.shape[1], value.shape[3], dtype=query.dtype, device=query.device
        ), None
    assert step is not None, "the engine's attention needs a step"
    step.cache.write(layer, step.write_slots_T, key[0], value[0])
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    output_THGD = attend(query[0], step, layer, scale, sliding_window, softcap)
    return output_THGD.flatten(1, 2)[None].to(query.dtype), None


def attend(
    query_QTD: Tensor, step: StepContext, layer: int, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    """Attention of all rows of a step over one layer's pool, fp32 [T, H, G, D]; query [H*G, T, D], any float dtype."""
    keys_HSD, values_HSD = step.cache.keys[layer], step.cache.values[layer]
    num_heads, num_rows = keys_HSD.shape[0], query_QTD.shape[1]
    query_HGTD = query_QTD.float().mul(scale).view(num_heads, -1, num_rows, query_QTD.shape[-1])
    query_HTGD = query_HGTD.transpose(1, 2).contiguous()
    group = query_HTGD.shape[2]
    query_BGD = query_HTGD.view(num_heads * num_rows, group, -1)

    peak = query_BGD.new_full((num_heads, num_rows, group, 1), -torch.inf)
    total = torch.zeros_like(peak)
    merged = query_BGD.new_zeros(num_heads, num_rows, group, values_HSD.shape[2])
    for tile in range(step.num_tiles):
        slots = step.slots_TL[:, tile * TILE : (tile + 1) * TILE].reshape(-1)
        keys_BPD = keys_HSD.index_select(1, slots).view(num_heads * num_rows, TILE, -1).float()
        values_BPD = values_HSD.index_select(1, slots).view(num_heads * num_rows, TILE, -1).float()
        scores = torch.bmm(query_BGD, keys_BPD.mT).view(num_heads, num_rows, group, TILE)
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        scores = scores + step.mask(tile, window)
        # A row that sees nothing in its first tiles (outside its window) has a peak of -inf: exp(-inf - 0) is 0.
        new_peak = torch.maximum(peak, scores.amax(-1, keepdim=True))
        finite_peak = new_peak.masked_fill(new_peak == -torch.inf, 0.0)
        weights = torch.exp(scores - finite_peak)
        keep = torch.exp(peak - finite_peak)
        values = torch.bmm(weights.view(num_heads * num_rows, group, TILE), values_BPD).view_as(merged)
        total = total * keep + weights.sum(-1, keepdim=True)
        merged = merged * keep + values
        peak = new_peak
    output_HTGD: Tensor = merged / total
    return output_HTGD.transpose(0, 1)


AttentionInterface.register(IMPLEMENTATION, paged_attention)
