"""The step of a Llama-like decoder as plain tensor calls over the weights of its transformers model.

On small steps transformers' modules cost as much as their arithmetic. This computes what they compute in a quarter of
the calls: one product for query, key and value, one for gate and up, residuals added by the product, rotary positions
in three calls, one write of keys and values. Families of another shape run through their modules.

    for each layer:  x += out(attend(rotate(qkv(norm(x)))));  x += down(act(gate(norm(x))) * up(norm(x)))

Shape letters: T packed rows, R logit rows, D width, E elements of heads, H heads, S head size, C context, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from engine.attention import LayerAttention, attend
from engine.batch import PackedBatch
from engine.fused_projections import ProjectionPart
from engine.linears import add_product

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
_MOVING_ROPE = ("dynamic", "longrope")
"""Rotary positions that depend on the length of the sequence."""


@dataclass(frozen=True, slots=True)
class _Layer:
    attention: LayerAttention
    attention_norm_D: Tensor
    qkv: nn.Module
    query_norm_S: Tensor | None
    key_norm_S: Tensor | None
    out: nn.Module
    mlp_norm_D: Tensor
    gate_up: nn.Module
    activation: nn.Module
    down: nn.Module


class LeanDecoder:
    """Runs packed steps; shares its weights with the model that it was made from."""

    def __init__(self, model: PreTrainedModel, attention: Sequence[LayerAttention]) -> None:
        config, decoder = model.config, model.model
        self._eps: float = config.rms_norm_eps
        self._embedding_VD: Tensor = decoder.embed_tokens.weight
        self._norm_D: Tensor = decoder.norm.weight
        self._head: nn.Module = model.lm_head
        self._layers = [_layer_of(*pair) for pair in zip(decoder.layers, attention, strict=True)]
        positions = torch.arange(config.max_position_embeddings, device=self._embedding_VD.device)[None]
        cos_1CS, sin_1CS = decoder.rotary_emb(self._embedding_VD[:1], positions)
        first, second = sin_1CS[0].chunk(2, dim=1)
        self._cos_CS: Tensor = cos_1CS[0].contiguous()
        self._turning_sin_CS = torch.cat((-first, second), dim=1)
        """Signed so that it multiplies the halves of a head in exchanged order."""

    def logits(self, batch: PackedBatch) -> Tensor:
        """[R, V] of the batch's logit rows; writes the KV of all rows."""
        step, num_rows = batch.context, batch.ids_T.shape[0]
        x_TD = self._embedding_VD.index_select(0, batch.ids_T)
        cos_T12S = self._halves(self._cos_CS, batch.positions_T)
        sin_T12S = self._halves(self._turning_sin_CS, batch.positions_T)
        for index, layer in enumerate(self._layers):
            shape = layer.attention.shape
            qkv_TE = layer.qkv(self._norm(x_TD, layer.attention_norm_D))
            heads_THS = qkv_TE.view(num_rows, -1, shape.key_size)
            self._place(heads_THS, layer, cos_T12S, sin_T12S)
            query_TE, kv_TE = qkv_TE.tensor_split((qkv_TE.shape[1] - shape.num_elements,), dim=1)
            step.cache.write(index, step.write_slots_T, kv_TE)
            attended_TE = attend(query_TE, step, index, layer.attention)
            x_TD = add_product(x_TD, attended_TE, layer.out)
            gate_TE, up_TE = layer.gate_up(self._norm(x_TD, layer.mlp_norm_D)).chunk(2, dim=1)
            x_TD = add_product(x_TD, layer.activation(gate_TE).mul_(up_TE), layer.down)
        x_RD = x_TD.index_select(0, batch.logit_rows)
        logits_RV: Tensor = self._head(self._norm(x_RD, self._norm_D))
        return logits_RV

    def _norm(self, rows: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(rows, weight.shape, weight, self._eps)

    def _place(self, heads_THS: Tensor, layer: _Layer, cos_T12S: Tensor, sin_T12S: Tensor) -> None:
        """Norm (if the family does) and rotate queries and keys in place."""
        num_values = layer.attention.shape.num_heads
        placed_THS = heads_THS[:, :-num_values]
        if layer.query_norm_S is not None and layer.key_norm_S is not None:
            query_THS, key_THS = placed_THS.tensor_split((placed_THS.shape[1] - num_values,), dim=1)
            query_THS.copy_(self._norm(query_THS, layer.query_norm_S))
            key_THS.copy_(self._norm(key_THS, layer.key_norm_S))
        halves_TH2S = placed_THS.view(*placed_THS.shape[:2], 2, -1)
        torch.addcmul(halves_TH2S * cos_T12S, halves_TH2S.flip(2), sin_T12S, out=halves_TH2S)

    @staticmethod
    def _halves(table_CS: Tensor, positions_T: Tensor) -> Tensor:
        """[T, 1, 2, S / 2]."""
        return table_CS.index_select(0, positions_T).view(len(positions_T), 1, 2, -1)


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


def _layer_of(layer: Any, attention: LayerAttention) -> _Layer:
    own, mlp = layer.self_attn, layer.mlp
    return _Layer(
        attention=attention,
        attention_norm_D=layer.input_layernorm.weight,
        qkv=own.q_proj.fused.linear,
        query_norm_S=own.q_norm.weight if hasattr(own, "q_norm") else None,
        key_norm_S=own.k_norm.weight if hasattr(own, "k_norm") else None,
        out=own.o_proj,
        mlp_norm_D=layer.post_attention_layernorm.weight,
        gate_up=mlp.gate_proj.fused.linear,
        activation=mlp.act_fn,
        down=mlp.down_proj,
    )
