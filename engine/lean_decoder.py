"""The step of a Llama-like decoder as plain tensor calls over the weights of its transformers model.

On small steps transformers' modules cost as much as their arithmetic. This computes what they compute in a quarter of
the calls: one product for query, key and value, one for gate and up, residuals added by the product, rotary positions
in three calls, one write of keys and values. Families of another shape run through their modules.

    for each layer:  x += out(attend(rotate(qkv(norm(x)))));  x += down(act(gate(norm(x))) * up(norm(x)))

On CPUs the whole step is compiled into one call (`engine.torchscript`).

Shape letters: T packed rows, R logit rows, D width, E elements of heads, H heads, S head size, C context, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from engine.attention import LayerAttention, attend
from engine.batch import PackedBatch
from engine.fused_projections import ProjectionPart
from engine.linears import sum_with_product
from engine.skipping import NOTHING, SkipSet
from engine.tile_steps import TileInputs, attend_tiles
from engine.tiled_attention import TiledAttention
from engine.torchscript import compiled

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
_MOVING_ROPE = ("dynamic", "longrope")
"""Rotary positions that depend on the length of the sequence."""


class LeanDecoder:
    """Runs packed steps; shares its weights with the model that it was made from."""

    def __init__(self, model: PreTrainedModel, attention: Sequence[LayerAttention]) -> None:
        self._attention = tuple(attention)
        self._kinds = tuple(dict.fromkeys((layer.group, layer.window) for layer in attention))
        self.step = _Step(model, self._attention, self._kinds)
        self.compiled = compiled(self.step, model.device)
        """`step`, or the same in one call."""

    def logits(self, batch: PackedBatch, skip: SkipSet = NOTHING) -> Tensor:
        """[R, V] of the batch's logit rows; writes the KV of all rows, but in layers whose attention is left out."""
        context, step = batch.context, self.step
        attends = [index not in skip.attention for index in range(len(step.layers))]
        feeds = [index not in skip.mlp for index in range(len(step.layers))]
        if isinstance(context.reads, TiledAttention):
            inputs = [context.reads.inputs(*kind, step.embedding_VD.dtype) for kind in self._kinds]
            pools = list(context.cache.slots)
            logits_RV: Tensor = self.compiled(
                batch.ids_T, batch.positions_T, batch.logit_rows, pools, context.write_slots_T, inputs, attends, feeds
            )
            return logits_RV
        x_TD, cos_T12S, sin_T12S = step.embed(batch.ids_T, batch.positions_T)
        for index, (layer, attention) in enumerate(zip(step.layers, self._attention, strict=True)):
            assert isinstance(layer, _Layer)
            if attends[index]:
                query_TE, kv_TE = layer.project(x_TD, cos_T12S, sin_T12S)
                context.cache.write(index, context.write_slots_T, kv_TE)
                x_TD = layer.add_out(x_TD, attend(query_TE, context, index, attention))
            if feeds[index]:
                x_TD = layer.feed(x_TD)
        return step.head(x_TD, batch.logit_rows)


# TorchScript compiles the three classes below: they keep to its subset of Python.


class _Step(nn.Module):
    def __init__(
        self, model: PreTrainedModel, attention: Sequence[LayerAttention], kinds: Sequence[tuple[int, int | None]]
    ) -> None:
        super().__init__()
        config, decoder = model.config, model.model
        self.embedding_VD = decoder.embed_tokens.weight
        self.norm = _Norm(decoder.norm.weight, config.rms_norm_eps)
        self.lm_head = model.lm_head
        self.layers = nn.ModuleList(
            _Layer(layer, own, kinds.index((own.group, own.window)), config.rms_norm_eps)
            for layer, own in zip(decoder.layers, attention, strict=True)
        )
        positions = torch.arange(config.max_position_embeddings, device=self.embedding_VD.device)[None]
        cos_1CS, sin_1CS = decoder.rotary_emb(self.embedding_VD[:1], positions)
        first, second = sin_1CS[0].chunk(2, dim=1)
        self.cos_CS = cos_1CS[0].contiguous()
        self.turning_sin_CS = torch.cat((-first, second), dim=1)
        """Signed so that it multiplies the halves of a head in exchanged order."""

    def forward(
        self,
        ids_T: Tensor,
        positions_T: Tensor,
        logit_rows: Tensor,
        pools_SE: list[Tensor],
        write_slots_T: Tensor,
        inputs: list[TileInputs],
        attends: list[bool],
        feeds: list[bool],
    ) -> Tensor:
        """Logits [R, V]; `pools_SE` are the KV pools of the layers, `inputs` one a kind of layer.

        `attends` and `feeds` say which layers run their attention and their MLP.
        """
        x_TD, cos_T12S, sin_T12S = self.embed(ids_T, positions_T)
        for index, layer in enumerate(self.layers):
            pool_SE, runs = pools_SE[index], (attends[index], feeds[index])
            x_TD = layer(x_TD, cos_T12S, sin_T12S, pool_SE, write_slots_T, inputs, runs)
        return self.head(x_TD, logit_rows)

    def embed(self, ids_T: Tensor, positions_T: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows [T, D] and their rotary cosines and sines [T, 1, 2, S / 2]."""
        x_TD = self.embedding_VD.index_select(0, ids_T)
        shape = [ids_T.shape[0], 1, 2, self.cos_CS.shape[1] // 2]
        cos_T12S = self.cos_CS.index_select(0, positions_T).view(shape)
        sin_T12S = self.turning_sin_CS.index_select(0, positions_T).view(shape)
        return x_TD, cos_T12S, sin_T12S

    def head(self, x_TD: Tensor, logit_rows: Tensor) -> Tensor:
        """[R, V]."""
        logits_RV: Tensor = self.lm_head(self.norm(x_TD.index_select(0, logit_rows)))
        return logits_RV


class _Layer(nn.Module):
    def __init__(self, layer: Any, attention: LayerAttention, kind: int, eps: float) -> None:
        super().__init__()
        own, mlp = layer.self_attn, layer.mlp
        self.kind = kind
        self.num_kv_heads, self.head_size = attention.shape.num_heads, attention.shape.key_size
        self.scale = attention.scale
        self.attention_norm = _Norm(layer.input_layernorm.weight, eps)
        self.qkv = own.q_proj.fused.linear
        self.query_norm = _Norm(own.q_norm.weight, eps) if hasattr(own, "q_norm") else None
        self.key_norm = _Norm(own.k_norm.weight, eps) if hasattr(own, "k_norm") else None
        self.add_out = sum_with_product(own.o_proj)
        self.mlp_norm = _Norm(layer.post_attention_layernorm.weight, eps)
        self.gate_up = mlp.gate_proj.fused.linear
        self.activation = mlp.act_fn
        self.add_down = sum_with_product(mlp.down_proj)

    def forward(
        self,
        x_TD: Tensor,
        cos_T12S: Tensor,
        sin_T12S: Tensor,
        pool_SE: Tensor,
        write_slots_T: Tensor,
        inputs: list[TileInputs],
        runs: tuple[bool, bool],
    ) -> Tensor:
        """The rows behind this layer, [T, D]; `runs`: whether its attention and its MLP are not left out."""
        attends, feeds = runs
        if attends:
            query_TE, kv_TE = self.project(x_TD, cos_T12S, sin_T12S)
            pool_SE.index_copy_(0, write_slots_T, kv_TE)
            tiles = inputs[self.kind]
            attended_TE = attend_tiles(query_TE, pool_SE, tiles, self.num_kv_heads, self.head_size, self.scale)
            x_TD = self.add_out(x_TD, attended_TE)
        if feeds:
            x_TD = self.feed(x_TD)
        return x_TD

    def project(self, x_TD: Tensor, cos_T12S: Tensor, sin_T12S: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [T, E] in their places, keys and values as the pool keeps them."""
        qkv_TE: Tensor = self.qkv(self.attention_norm(x_TD))
        num_rows, num_kv_heads = qkv_TE.shape[0], self.num_kv_heads
        heads_THS = qkv_TE.view(num_rows, -1, self.head_size)
        num_queries = heads_THS.shape[1] - 2 * num_kv_heads
        if self.query_norm is not None and self.key_norm is not None:
            query_THS = heads_THS[:, :num_queries]
            key_THS = heads_THS[:, num_queries : num_queries + num_kv_heads]
            query_THS.copy_(self.query_norm(query_THS))
            key_THS.copy_(self.key_norm(key_THS))
        halves_TH2S = heads_THS[:, : num_queries + num_kv_heads].view(num_rows, -1, 2, self.head_size // 2)
        torch.addcmul(halves_TH2S * cos_T12S, halves_TH2S.flip(2), sin_T12S, out=halves_TH2S)
        split = num_queries * self.head_size
        return qkv_TE[:, :split], qkv_TE[:, split:]

    def feed(self, x_TD: Tensor) -> Tensor:
        """The rows behind this layer's MLP, [T, D]."""
        gate_TE, up_TE = self.gate_up(self.mlp_norm(x_TD)).chunk(2, dim=1)
        result_TD: Tensor = self.add_down(x_TD, self.activation(gate_TE).mul_(up_TE))
        return result_TD


class _Norm(nn.Module):
    """Root-mean-square norm.

    On CPUs as a layer norm, which is one kernel where torch's own is ten: the mean of (x, -x) is zero, its variance
    the mean square of x.
    """

    def __init__(self, weight_D: Tensor, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.width = weight_D.shape[0]
        self.is_doubled = weight_D.device.type == "cpu"
        self.weight = torch.cat((weight_D, weight_D)).detach() if self.is_doubled else weight_D.detach()

    def forward(self, rows: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        if not self.is_doubled:
            return F.rms_norm(rows, self.weight.shape, self.weight, self.eps)
        both = torch.cat((rows, -rows), -1)
        return F.layer_norm(both, self.weight.shape, self.weight, None, self.eps)[..., : self.width]


def why_not_lean(model: PreTrainedModel) -> str | None:
    """What keeps a model from running as a `LeanDecoder`, or None."""
    name = type(model).__name__
    if name not in ARCHITECTURES:
        return f"{name} has layers of its own"
    rope = getattr(model.config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") in _MOVING_ROPE or rope.get("partial_rotary_factor", 1.0) != 1.0:
        return f"its rotary positions are {rope}"
    layer: Any
    for layer in model.model.layers:
        if not all(isinstance(part, ProjectionPart) for part in (layer.self_attn.q_proj, layer.mlp.gate_proj)):
            return "not all of its projections are fused"
    return None
