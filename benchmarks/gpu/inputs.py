"""Random inputs of the kernels at the sizes of a run; the same for checks and timings.

Shape letters: T rows, V vocabulary, Q query heads, H KV heads, S slots, D head size, L index list, N moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from polydraft_kernels.kv_pools import KVPools
from polydraft_kernels.packing import PackedTrees, SamplingRows
from torch import Tensor

from benchmarks.gpu.sizes import Sizes


def generator_on(device: torch.device, seed: int) -> torch.Generator:
    """A seeded generator of that device."""
    return torch.Generator(device).manual_seed(seed)


def random_logits(sizes: Sizes, seed: int) -> Tensor:
    """[T, V], with ties in low precision."""
    shape = (sizes.num_rows, sizes.vocab_size)
    return (torch.randn(shape, generator=generator_on(sizes.device, seed), device=sizes.device) * 3).to(sizes.dtype)


def likely_trees(sizes: Sizes, logits_TV: Tensor) -> PackedTrees:
    """A chain a session, of tokens that the target would choose but for the last."""
    likely = logits_TV.float().argmax(dim=1).view(sizes.num_sessions, -1).tolist()
    num_drafted = sizes.rows_a_session - 1
    drafts = [[*tokens[: num_drafted - 1], 0] for tokens in likely]
    parents = [list(range(-1, num_drafted - 1))] * sizes.num_sessions
    return PackedTrees.pack([0] * sizes.num_sessions, drafts, parents, sizes.device)


def sampled_rows(sizes: Sizes, temperature: float, top_k: int = 0, top_p: float = 1.0) -> SamplingRows:
    """The same rule for every row, other seeds and positions."""
    count = sizes.num_rows
    return SamplingRows.build(
        [temperature] * count, [top_k] * count, [top_p] * count, [*range(count)], [*range(count)], sizes.device
    )


@dataclass(frozen=True, slots=True)
class AttentionInputs:
    """Sessions of one length on pages in any order; the rows of one see nearly the same keys."""

    query_QTD: Tensor
    keys_HSD: Tensor
    values_HSD: Tensor
    slots_TL: Tensor
    lengths_T: Tensor
    scale: float

    @property
    def num_bytes(self) -> int:
        """The least that must move: each key and value once, queries, outputs, index lists."""
        num_tokens = len(set(self.slots_TL.flatten().tolist()))
        of_token = self.keys_HSD[:, 0].numel() * 2 * self.keys_HSD.element_size()
        outputs = self.query_QTD.numel() * 4
        lists: int = self.slots_TL.nbytes
        return num_tokens * of_token + self.query_QTD.numel() * self.query_QTD.element_size() + outputs + lists


def attention_inputs(sizes: Sizes, seed: int) -> AttentionInputs:
    """A pool that holds every session once, as the engine lays it out: keys and values of a slot side by side."""
    generator, device = generator_on(sizes.device, seed), sizes.device
    num_slots = sizes.num_sessions * sizes.context
    pool_SHD = torch.randn(num_slots, 2 * sizes.num_kv_heads, sizes.head_size, generator=generator, device=device)
    pool_HSD = pool_SHD.to(sizes.dtype).transpose(0, 1)
    slots_BL = torch.randperm(num_slots, generator=generator, device=device).view(sizes.num_sessions, -1)
    query_TQD = torch.randn(
        sizes.num_rows, sizes.num_kv_heads * sizes.group, sizes.head_size, generator=generator, device=device
    )
    behind_T = torch.arange(sizes.num_rows, device=device) % sizes.rows_a_session
    return AttentionInputs(
        query_TQD.to(sizes.dtype).transpose(0, 1),
        pool_HSD[: sizes.num_kv_heads],
        pool_HSD[sizes.num_kv_heads :],
        slots_BL.repeat_interleave(sizes.rows_a_session, dim=0),
        sizes.context - sizes.rows_a_session + 1 + behind_T,
        sizes.head_size**-0.5,
    )


def kv_pools(sizes: Sizes, seed: int) -> KVPools:
    """Keys and values of all layers."""
    shape = (sizes.num_pools, sizes.num_kv_heads, sizes.num_sessions * 32, sizes.head_size)
    pools = torch.randn(shape, generator=generator_on(sizes.device, seed), device=sizes.device).to(sizes.dtype)
    return KVPools.of(list(pools))


def path_moves(sizes: Sizes) -> tuple[Tensor, Tensor]:
    """From and to slots [N]: every session keeps the second branch of a tree."""
    first_B1 = torch.arange(sizes.num_sessions, device=sizes.device)[:, None] * 32
    depth_D = torch.arange(sizes.rows_a_session - 1, device=sizes.device)
    return (first_B1 + 2 * depth_D + 1).flatten(), (first_B1 + depth_D).flatten()


def linear_inputs(sizes: Sizes, num_rows: int, num_inputs: int, num_outputs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows [R, I] and weight [O, I]."""
    generator, device = generator_on(sizes.device, seed), sizes.device
    rows_RI = torch.randn(num_rows, num_inputs, generator=generator, device=device)
    weight_OI = torch.randn(num_outputs, num_inputs, generator=generator, device=device) * num_inputs**-0.5
    return rows_RI.to(sizes.dtype), weight_OI.to(sizes.dtype)


def linear_shapes(sizes: Sizes) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of the layers of the serving shape, fused as the engine runs them."""
    shape = sizes.serving
    heads = shape.num_heads * shape.head_size
    qkv = heads + 2 * shape.num_kv_heads * shape.head_size
    return {
        "qkv": (shape.width, qkv),
        "out": (heads, shape.width),
        "gate_up": (shape.width, 2 * shape.mlp_width),
        "down": (shape.mlp_width, shape.width),
        "head": (shape.width, shape.vocab_size),
    }
