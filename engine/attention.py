"""Attention over the paged KV whose result for a row depends on the keys that the row sees and on nothing else.

Each row reads its keys as an index list in position order, tile by tile of `TILE` positions from position 0; tiles are
calls of constant inner shape and merge in order. A tile that a row does not reach adds exactly zero, so neither the
other rows of a step, nor their number, nor their lengths change a bit. Chains, prefill chunks and tree branches differ
only in their index lists.

On CPUs `TiledAttention` computes this, on CUDA devices the kernel `tree_attention`, which promises the same of a row's
bits. What remains here is the specification, and what runs on a CPU where `TiledAttention` cannot.

Shape letters: T packed rows, H KV heads, G query heads a KV head, Q all query heads, D head size, L index list,
P positions of a tile, E elements of all query heads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from polydraft_kernels import ops
from torch import Tensor, nn
from transformers import AttentionInterface

from engine.attention_plan import TILE
from engine.kv_cache import KVCache, LayerShape
from engine.tiled_attention import TiledAttention, find_lone_block

IMPLEMENTATION = "polydraft_paged"


@dataclass(slots=True)
class IndexLists:
    """The slots each row reads, for the kernel on CUDA devices and for the specification.

    `slots_TL[t, i]` is the slot of the key at position i of row t's sequence (ancestors in depth order for a tree
    node), valid for i < lengths_T[t]; L is a multiple of `TILE`.
    """

    slots_TL: Tensor
    lengths_T: Tensor
    _visible: dict[tuple[int, int | None], Tensor] = field(default_factory=dict)

    @property
    def num_tiles(self) -> int:
        return self.slots_TL.shape[1] // TILE

    def visible(self, tile: int, window: int | None) -> Tensor:
        """Which positions of one tile each row sees, bool [T, P]; a window counts positions, not slots."""
        if (tile, window) not in self._visible:
            positions_P = torch.arange(tile * TILE, (tile + 1) * TILE, device=self.lengths_T.device)
            visible_TP = positions_P < self.lengths_T[:, None]
            if window is not None:
                visible_TP &= positions_P >= self.lengths_T[:, None] - window
            self._visible[tile, window] = visible_TP
        return self._visible[tile, window]


@dataclass(slots=True)
class StepContext:
    """Where the rows of one step write and what they see."""

    cache: KVCache
    write_slots_T: Tensor
    reads: TiledAttention | IndexLists


@dataclass(frozen=True, slots=True)
class LayerAttention:
    """What one layer's attention computes."""

    shape: LayerShape
    group: int
    """Query heads a KV head."""
    scale: float
    window: int | None = None
    softcap: float | None = None


@dataclass(slots=True)
class AttentionRecorder:
    """Stands in for a `StepContext` once, to learn a model's attention from the model itself."""

    layers: dict[int, LayerAttention] = field(default_factory=dict)
    modules: dict[int, nn.Module] = field(default_factory=dict)


def lone_block_of(layers: Iterable[LayerAttention], dtype: torch.dtype, device: torch.device) -> int | None:
    """What `TiledAttention` needs to know of these layers (see `find_lone_block`); None: it cannot compute them."""
    blocks = {
        find_lone_block(dtype, layer.group, layer.shape.key_size)
        if device.type == "cpu" and layer.softcap is None and layer.shape.key_size == layer.shape.value_size
        else None
        for layer in layers
    }
    return None if None in blocks else max(block for block in blocks if block is not None)


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
    step: StepContext | AttentionRecorder | None = None,
    **_: Any,  # what transformers passes to other implementations
) -> tuple[Tensor, None]:
    """The attention that transformers calls: query [1, H*G, T, D], key and value [1, H, T, D] -> [1, T, H*G, D]."""
    if s_aux is not None:
        raise NotImplementedError("attention sinks are not supported")
    layer = module.layer_idx
    assert isinstance(layer, int), layer
    num_heads, num_rows = query.shape[1:3]
    attention = LayerAttention(
        LayerShape(key.shape[1], key.shape[3], value.shape[3]),
        group=num_heads // key.shape[1],
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=sliding_window,
        softcap=softcap,
    )
    if isinstance(step, AttentionRecorder):
        step.layers[layer], step.modules[layer] = attention, module
        return query.new_zeros(1, num_rows, num_heads, value.shape[3]), None
    assert step is not None, "the engine's attention needs a step"
    kv_TE = torch.cat([half[0].transpose(0, 1).flatten(1) for half in (key, value)], dim=1)
    step.cache.write(layer, step.write_slots_T, kv_TE)
    output_TE = attend(query[0].transpose(0, 1).flatten(1), step, layer, attention)
    return output_TE.view(1, num_rows, num_heads, -1), None


def attend(query_TE: Tensor, step: StepContext, layer: int, attention: LayerAttention) -> Tensor:
    """Attention of all rows of a step over one layer's pool; query [T, H*G*D], its columns [H, G, D]; as its dtype."""
    if isinstance(step.reads, TiledAttention):
        pool_SE = step.cache.slots[layer]
        return step.reads.attend(query_TE, pool_SE, attention.shape, attention.scale, attention.window)
    if query_TE.device.type == "cuda":
        return attend_by_kernel(query_TE, step.cache, step.reads, layer, attention)
    return _attend_by_specification(query_TE, step.cache, step.reads, layer, attention)


def attend_by_kernel(
    query_TE: Tensor, cache: KVCache, reads: IndexLists, layer: int, attention: LayerAttention
) -> Tensor:
    """`attend` as one op over views of query and pool; runs anywhere, but promises bits on CUDA devices only."""
    query_QTD = query_TE.view(query_TE.shape[0], -1, attention.shape.key_size).transpose(0, 1)
    output_TQD = ops.tree_attention(
        query_QTD,
        cache.keys(layer),
        cache.values(layer),
        reads.slots_TL,
        reads.lengths_T,
        attention.scale,
        attention.window,
        attention.softcap,
    )
    return output_TQD.flatten(1).to(query_TE.dtype)


def _attend_by_specification(
    query_TE: Tensor, cache: KVCache, reads: IndexLists, layer: int, attention: LayerAttention
) -> Tensor:
    keys_HSD, values_HSD = cache.keys(layer), cache.values(layer)
    num_heads, num_rows, head_size = keys_HSD.shape[0], query_TE.shape[0], keys_HSD.shape[2]
    query_HTGD = (
        query_TE.float().mul(attention.scale).view(num_rows, num_heads, -1, head_size).transpose(0, 1).contiguous()
    )
    group = query_HTGD.shape[2]
    query_BGD = query_HTGD.view(num_heads * num_rows, group, -1)

    peak = query_BGD.new_full((num_heads, num_rows, group, 1), -torch.inf)
    total = torch.zeros_like(peak)
    merged = query_BGD.new_zeros(num_heads, num_rows, group, values_HSD.shape[2])
    for tile in range(reads.num_tiles):
        slots = reads.slots_TL[:, tile * TILE : (tile + 1) * TILE].reshape(-1)
        keys_BPD = keys_HSD.index_select(1, slots).view(num_heads * num_rows, TILE, -1).float()
        values_HTPD = values_HSD.index_select(1, slots).view(num_heads, num_rows, TILE, -1).float()
        scores = torch.bmm(query_BGD, keys_BPD.mT).view(num_heads, num_rows, group, TILE)
        if attention.softcap is not None:
            scores = torch.tanh(scores / attention.softcap) * attention.softcap
        # What an invisible slot holds may be anything, and nothing times NaN is NaN.
        hidden_TP = ~reads.visible(tile, attention.window)
        scores = scores.masked_fill(hidden_TP[:, None, :], -torch.inf)
        values_BPD = values_HTPD.masked_fill(hidden_TP[..., None], 0.0).view(num_heads * num_rows, TILE, -1)
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
    return output_HTGD.transpose(0, 1).flatten(1).to(query_TE.dtype)


AttentionInterface.register(IMPLEMENTATION, paged_attention)
