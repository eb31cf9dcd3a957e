"""A Llama of one or two layers run for latency: plain tensor calls, no modules, rows of many sequences in one pass.

What makes it fast on one thread: fused query-key-value and gate-up projections, weights transposed once for `mm`, norm
weights folded into the projection behind them, residuals added by the projection (`addmm`), rotary positions as one
complex product, a head of the first rows of the embedding only. It computes what transformers' LlamaForCausalLM does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from engine.drafters.checkpoint import EMBEDDING, DrafterCheckpoint, LlamaShape
from engine.drafters.slot_cache import SlotCache

# Shape letters: B sequences, Q rows a sequence (padded at the end), T = B * Q, L places read, C context length,
#                D width, E fused heads, M MLP width, N query heads, G key-value heads, H head size,
#                F rotary frequencies (H / 2), R embedding rows, V head rows (the tokens that may be proposed)


MAX_TREE_NODES = 96
"""Room in a slot behind a sequence of full length."""


@dataclass(frozen=True, slots=True)
class _Layer:
    qkv_DE: Tensor
    out_ED: Tensor
    gate_up_DM: Tensor
    """Gates in the first half of the columns."""
    down_MD: Tensor


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one sequence in a pass. They go to the places `start`, `start + 1`, ... of its slot."""

    slot: int
    start: int
    tokens: Sequence[int]
    """Rows of the embedding."""
    positions: Sequence[int]
    """In the sequence; nodes of a tree that are equally deep share one."""
    visible_QL: NDArray[np.bool_] | None = None
    """The places each row reads, up to the last row's; None: all up to its own."""

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


@dataclass(frozen=True, slots=True)
class _Pass:
    """Rows of all sequences of a pass, padded to the same number each."""

    tokens_T: Tensor
    positions_T: Tensor
    mask_B1QL: Tensor | None
    num_sequences: int
    length: int
    """Places read."""
    slot: int
    start: int
    slots_B: Tensor | None
    """None for one sequence, which is at `slot` from `start` on."""
    slots_T: Tensor | None
    places_T: Tensor | None


class LeanLlama:
    """Runs embedding rows at places of cache slots. Not thread-safe."""

    def __init__(self, checkpoint: DrafterCheckpoint, dtype: torch.dtype, device: str) -> None:
        shape = checkpoint.shape
        self.shape = shape
        self._device = torch.device(device)
        self._embedding_RD = checkpoint.weights[EMBEDDING].to(device, dtype)
        norm_D = checkpoint.weights["model.norm.weight"].float()
        head_VD = checkpoint.weights[EMBEDDING][: checkpoint.manifest.num_head_tokens].float() * norm_D
        self._head_DV = _transposed(head_VD, dtype, device)
        self._layers = [_fuse_layer(checkpoint, layer, dtype, device) for layer in range(shape.num_layers)]
        self._turns_CF = _rotary_turns(shape).to(device)
        self.cache = SlotCache(
            shape.num_layers,
            shape.num_kv_heads,
            shape.head_size,
            shape.context_length + MAX_TREE_NODES,
            dtype,
            device,
        )

    @torch.inference_mode()
    def prefill(self, slot: int, tokens: Sequence[int]) -> None:
        """Put the beginning of a sequence into a slot."""
        self._hidden(self._pack([Rows(slot, 0, tokens, range(len(tokens)))]))

    @torch.inference_mode()
    def next_logits(self, rows: Sequence[Rows], num_wanted: Sequence[int]) -> Tensor:
        """Run rows, at least one a sequence. Returns the logits of the tokens behind the last `num_wanted[b]` of each.

        fp32 [sum of num_wanted, V], sequence by sequence.
        """
        hidden_TD = self._hidden(self._pack(rows))
        widest = max(len(some.tokens) for some in rows)
        wanted = [
            index * widest + row
            for index, (some, count) in enumerate(zip(rows, num_wanted, strict=True))
            for row in range(len(some.tokens) - count, len(some.tokens))
        ]
        if len(wanted) < hidden_TD.shape[0]:
            hidden_TD = hidden_TD.index_select(0, self._tensor(wanted))
        return torch.mm(self._normed(hidden_TD), self._head_DV).float()

    def _pack(self, rows: Sequence[Rows]) -> _Pass:
        length = max(some.end for some in rows)
        self.cache.reserve(length)
        if len(rows) == 1:
            one = rows[0]
            mask_QL = _mask(one, len(one.tokens), length) if len(one.tokens) > 1 or one.visible_QL is not None else None
            mask = None if mask_QL is None else torch.from_numpy(mask_QL).to(self._device)
            positions_T = self._tensor(one.positions)
            return _Pass(self._tensor(one.tokens), positions_T, mask, 1, length, one.slot, one.start, None, None, None)

        # Padding rows stand behind their sequence's last row: nobody reads what they write before it is written anew.
        widest = max(len(some.tokens) for some in rows)
        trash = self.cache.trash_place
        tokens, positions, places = [], [], []
        for some in rows:
            padding = [0] * (widest - len(some.tokens))
            tokens += [*some.tokens, *padding]
            positions += [*some.positions, *padding]
            places += [*range(some.start, some.end), *(trash for _ in padding)]
        mask_BQL = np.stack([_mask(some, widest, length) for some in rows])
        slots_B = self._tensor([some.slot for some in rows])
        return _Pass(
            tokens_T=self._tensor(tokens),
            positions_T=self._tensor(positions),
            mask_B1QL=torch.from_numpy(mask_BQL).to(self._device).unsqueeze(1),
            num_sequences=len(rows),
            length=length,
            slot=rows[0].slot,
            start=rows[0].start,
            slots_B=slots_B,
            slots_T=slots_B.repeat_interleave(widest) if widest > 1 else slots_B,
            places_T=self._tensor(places),
        )

    def _hidden(self, rows: _Pass) -> Tensor:
        """[T, D] behind the last layer, before the last norm."""
        shape = self.shape
        num_rows = rows.tokens_T.shape[0]
        hidden_TD = F.embedding(rows.tokens_T, self._embedding_RD)
        turns_T1F = self._turns_CF.index_select(0, rows.positions_T).unsqueeze(1)
        for index, layer in enumerate(self._layers):
            heads_TEH = torch.mm(self._normed(hidden_TD), layer.qkv_DE).view(num_rows, -1, shape.head_size)
            _rotate(heads_TEH[:, : shape.num_heads + shape.num_kv_heads], turns_T1F)
            attended_TE = self._attend(index, rows, heads_TEH)
            hidden_TD = torch.addmm(hidden_TD, attended_TE, layer.out_ED)
            gate_TM, up_TM = torch.mm(self._normed(hidden_TD), layer.gate_up_DM).chunk(2, dim=1)
            hidden_TD = torch.addmm(hidden_TD, F.silu(gate_TM).mul_(up_TM), layer.down_MD)
        return hidden_TD

    def _attend(self, layer: int, rows: _Pass, heads_TEH: Tensor) -> Tensor:
        """Write this pass' keys and values, attend to all visible ones; [T, N * H]."""
        num_heads, num_kv_heads = self.shape.num_heads, self.shape.num_kv_heads
        num_rows = heads_TEH.shape[0]
        query_BQNH = heads_TEH[:, :num_heads].view(rows.num_sequences, -1, num_heads, self.shape.head_size)
        if rows.slots_B is None or rows.slots_T is None or rows.places_T is None:
            self.cache.write_one(layer, rows.slot, rows.start, heads_TEH[:, num_heads:])
            kv_BLGH = self.cache.read_one(layer, rows.slot, rows.length)
        else:
            self.cache.write(layer, rows.slots_T, rows.places_T, heads_TEH[:, num_heads:])
            kv_BLGH = self.cache.read(layer, rows.slots_B, rows.length)
        kv_BGLH = kv_BLGH.transpose(1, 2)
        attended_BNQH = F.scaled_dot_product_attention(
            query_BQNH.transpose(1, 2),
            kv_BGLH[:, :num_kv_heads],
            kv_BGLH[:, num_kv_heads:],
            attn_mask=rows.mask_B1QL,
            enable_gqa=True,
        )
        return attended_BNQH.transpose(1, 2).reshape(num_rows, -1)

    def _normed(self, hidden_TD: Tensor) -> Tensor:
        """Root-mean-square norm without its weight, in fp32 as transformers does."""
        wide_TD = hidden_TD.float()
        mean_T1 = wide_TD.square().mean(dim=1, keepdim=True)
        return (wide_TD * mean_T1.add_(self.shape.norm_eps).rsqrt_()).to(hidden_TD.dtype)

    def _tensor(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)


def _mask(rows: Rows, num_rows: int, length: int) -> NDArray[np.bool_]:
    """Places that each row reads, [num_rows, length]; padding rows read the first one only."""
    mask_QL = np.zeros((num_rows, length), dtype=np.bool_)
    mask_QL[:, 0] = True
    count = len(rows.tokens)
    if rows.visible_QL is None:
        mask_QL[:count] = np.arange(length) <= np.arange(rows.start, rows.end)[:, None]
    else:
        mask_QL[:count, : rows.end] = rows.visible_QL
    return mask_QL


def _rotate(heads_TEH: Tensor, turns_T1F: Tensor) -> None:
    """Rotary positions in place; the projection has put the two halves of a head side by side (see `_interleaved`)."""
    pairs_TEF2 = heads_TEH.view(*heads_TEH.shape[:2], -1, 2)
    if heads_TEH.dtype == torch.float32:
        torch.view_as_complex(pairs_TEF2).mul_(turns_T1F)
    else:
        turned = torch.view_as_complex(pairs_TEF2.float()) * turns_T1F
        pairs_TEF2.copy_(torch.view_as_real(turned))


def _rotary_turns(shape: LlamaShape) -> Tensor:
    """cos + i sin of each position and frequency, complex64 [C, H / 2]."""
    exponents_F = torch.arange(0, shape.head_size, 2, dtype=torch.float32) / shape.head_size
    frequencies_F = 1.0 / (shape.rope_theta**exponents_F)
    angles_CF = torch.arange(shape.context_length, dtype=torch.float32)[:, None] * frequencies_F
    return torch.polar(torch.ones_like(angles_CF), angles_CF)


def _fuse_layer(checkpoint: DrafterCheckpoint, layer: int, dtype: torch.dtype, device: str) -> _Layer:
    shape = checkpoint.shape

    def weight(name: str) -> Tensor:
        return checkpoint.weights[f"model.layers.{layer}.{name}.weight"].float()

    query = _interleaved(weight("self_attn.q_proj"), shape.head_size)
    key = _interleaved(weight("self_attn.k_proj"), shape.head_size)
    qkv_ED = torch.cat((query, key, weight("self_attn.v_proj"))) * weight("input_layernorm")
    gate_up_MD = torch.cat((weight("mlp.gate_proj"), weight("mlp.up_proj"))) * weight("post_attention_layernorm")
    return _Layer(
        qkv_DE=_transposed(qkv_ED, dtype, device),
        out_ED=_transposed(weight("self_attn.o_proj"), dtype, device),
        gate_up_DM=_transposed(gate_up_MD, dtype, device),
        down_MD=_transposed(weight("mlp.down_proj"), dtype, device),
    )


def _interleaved(weight_ED: Tensor, head_size: int) -> Tensor:
    """Rotary pairs (j, j + H / 2) of every head side by side; scores of query and key do not change."""
    halves = weight_ED.view(-1, 2, head_size // 2, weight_ED.shape[1])
    return halves.transpose(1, 2).reshape(weight_ED.shape)


def _transposed(weight: Tensor, dtype: torch.dtype, device: str) -> Tensor:
    return weight.t().contiguous().to(device, dtype)
