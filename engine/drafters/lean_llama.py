"""A Llama of one or two layers run for latency: plain tensor calls, no modules, rows of many sequences in one pass.

What makes it fast on one thread: fused query-key-value and gate-up projections, weights transposed once for `mm`, norm
weights folded into the projection behind them, residuals added by the projection (`addmm`), rotary positions as one
complex product, a head of the first rows of the embedding only. It computes what transformers' LlamaForCausalLM does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.drafters.checkpoint import EMBEDDING, DrafterCheckpoint, LlamaShape
from engine.drafters.slot_cache import SlotCache

# Shape letters: B sequences, Q rows a sequence (padded at the end), T = B * Q, L positions read, C context length,
#                D width, E fused heads, M MLP width, N query heads, G key-value heads, H head size,
#                F rotary frequencies (H / 2), R embedding rows, V head rows (the tokens that may be proposed)


@dataclass(frozen=True, slots=True)
class _Layer:
    qkv_DE: Tensor
    out_ED: Tensor
    gate_up_DM: Tensor
    """Gates in the first half of the columns."""
    down_MD: Tensor


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one pass."""

    tokens_T: Tensor
    positions_T: Tensor
    mask_B1QL: Tensor | None
    num_sequences: int
    length: int
    """Positions read."""
    slot: int
    start: int
    slots_B: Tensor | None
    """None for one sequence, which is at `slot` from `start` on."""
    slots_T: Tensor | None
    last_B: Tensor | None
    """Each sequence's last row; None when there is but one row a sequence."""


class LeanLlama:
    """Runs embedding rows at positions of cache slots. Not thread-safe."""

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
        self._key_positions_C = torch.arange(shape.context_length, device=device)
        self.cache = SlotCache(
            shape.num_layers, shape.num_kv_heads, shape.head_size, shape.context_length, dtype, device
        )

    @torch.inference_mode()
    def prefill(self, slot: int, start: int, rows: Sequence[int]) -> None:
        """Put embedding rows into a slot from position `start` on."""
        self._hidden(self._pack([slot], [start], [rows]))

    @torch.inference_mode()
    def next_logits(self, slots: Sequence[int], starts: Sequence[int], rows: Sequence[Sequence[int]]) -> Tensor:
        """Run `rows[b]`, at least one, from position `starts[b]` of `slots[b]` on.

        Returns the logits of the token behind the last of each, fp32 [B, V].
        """
        packed = self._pack(slots, starts, rows)
        hidden_TD = self._hidden(packed)
        last_BD = hidden_TD if packed.last_B is None else hidden_TD.index_select(0, packed.last_B)
        return torch.mm(self._normed(last_BD), self._head_DV).float()

    def _pack(self, slots: Sequence[int], starts: Sequence[int], rows: Sequence[Sequence[int]]) -> _Rows:
        counts = [len(some) for some in rows]
        num_sequences, widest = len(slots), max(counts)
        length = max(start + count for start, count in zip(starts, counts, strict=True))
        self.cache.reserve(length)
        if num_sequences == 1:
            positions_T = self._key_positions_C[starts[0] : length]
            mask = positions_T[:, None] >= self._key_positions_C[:length] if widest > 1 else None
            last_B = self._tensor([widest - 1]) if widest > 1 else None
            return _Rows(self._tensor(rows[0]), positions_T, mask, 1, length, slots[0], starts[0], None, None, last_B)

        # Padding rows stand behind their sequence's last row: nobody reads what they write before it is written anew.
        trash = self.cache.trash_position
        padded, positions, last = [], [], []
        for index, (start, some) in enumerate(zip(starts, rows, strict=True)):
            padding = widest - len(some)
            padded += [*some, *([0] * padding)]
            positions += [*range(start, start + len(some)), *([trash] * padding)]
            last.append(index * widest + len(some) - 1)
        positions_T, slots_B = self._tensor(positions), self._tensor(slots)
        visible_BQL = positions_T.view(num_sequences, widest, 1) >= self._key_positions_C[:length]
        return _Rows(
            tokens_T=self._tensor(padded),
            positions_T=positions_T,
            mask_B1QL=visible_BQL.unsqueeze(1),
            num_sequences=num_sequences,
            length=length,
            slot=slots[0],
            start=starts[0],
            slots_B=slots_B,
            slots_T=slots_B.repeat_interleave(widest) if widest > 1 else slots_B,
            last_B=self._tensor(last) if widest > 1 else None,
        )

    def _hidden(self, rows: _Rows) -> Tensor:
        """[T, D] behind the last layer, before the last norm."""
        shape = self.shape
        num_rows = rows.tokens_T.shape[0]
        hidden_TD = F.embedding(rows.tokens_T, self._embedding_RD)
        turns_T1F = self._turns_CF.index_select(0, rows.positions_T.clamp(max=shape.context_length - 1)).unsqueeze(1)
        for index, layer in enumerate(self._layers):
            heads_TEH = torch.mm(self._normed(hidden_TD), layer.qkv_DE).view(num_rows, -1, shape.head_size)
            _rotate(heads_TEH[:, : shape.num_heads + shape.num_kv_heads], turns_T1F)
            attended_TE = self._attend(index, rows, heads_TEH)
            hidden_TD = torch.addmm(hidden_TD, attended_TE, layer.out_ED)
            gate_TM, up_TM = torch.mm(self._normed(hidden_TD), layer.gate_up_DM).chunk(2, dim=1)
            hidden_TD = torch.addmm(hidden_TD, F.silu(gate_TM).mul_(up_TM), layer.down_MD)
        return hidden_TD

    def _attend(self, layer: int, rows: _Rows, heads_TEH: Tensor) -> Tensor:
        """Write this pass' keys and values, attend to all visible ones; [T, N * H]."""
        num_heads, num_kv_heads = self.shape.num_heads, self.shape.num_kv_heads
        num_rows = heads_TEH.shape[0]
        query_BQNH = heads_TEH[:, :num_heads].view(rows.num_sequences, -1, num_heads, self.shape.head_size)
        if rows.slots_B is None or rows.slots_T is None:
            self.cache.write_one(layer, rows.slot, rows.start, heads_TEH[:, num_heads:])
            kv_BLGH = self.cache.read_one(layer, rows.slot, rows.length)
        else:
            self.cache.write(layer, rows.slots_T, rows.positions_T, heads_TEH[:, num_heads:])
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
