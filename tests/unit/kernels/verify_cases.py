"""Batches of odd shapes on which every implementation must equal the reference; shared by interpreter and GPU tests."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from polydraft_kernels.packing import PackedTrees, SamplingRows
from torch import Tensor

DRAFTS: dict[str, list[tuple[list[int], list[int]]]] = {
    "one_session": [([0, 0], [-1, 0])],
    "no_session": [],
    "all_empty": [([], []), ([], [])],
    "mixed": [([0, 0, 0], [-1, 0, 1]), ([], []), ([0, 1, 0, 1, 0], [-1, -1, 0, 0, 1]), ([0], [-1])],
}
"""Per session: tokens, which `make_case` replaces by likely ones, and parents."""


CHAIN_LENGTHS: dict[str, list[int]] = {
    "one_chain": [4],
    "mixed_chains": [3, 0, 5, 1],
    "no_drafts": [0, 0],
    "no_session": [],
}
"""Drafted tokens per session."""


@dataclass(frozen=True, slots=True)
class ChainCase:
    logits_TV: Tensor
    trees: PackedTrees
    draft_probs_TV: Tensor
    rows: SamplingRows
    rounds_B: Tensor


@dataclass(frozen=True, slots=True)
class Case:
    logits_TV: Tensor
    trees: PackedTrees
    rows: SamplingRows


def make_case(drafts: str, vocab_size: int, dtype: torch.dtype, device: str = "cpu", seed: int = 0) -> Case:
    """Peaked logits with many ties in low precision; drafts that the target often agrees with."""
    generator = torch.Generator().manual_seed(seed + vocab_size)
    sessions = DRAFTS[drafts]
    num_rows = sum(len(tokens) + 1 for tokens, _ in sessions)
    logits_TV = (torch.randn(num_rows, vocab_size, generator=generator) * 2).round(decimals=1).to(dtype)
    draft_tokens: list[list[int]] = []
    first_row = 0
    for tokens, parents in sessions:
        likely_TK = logits_TV[first_row : first_row + len(tokens) + 1].float().topk(min(2, vocab_size), dim=1).indices
        draft_tokens.append(
            [
                int(likely_TK[parent + 1, token % likely_TK.shape[1]])
                for token, parent in zip(tokens, parents, strict=True)
            ]
        )
        first_row += len(tokens) + 1
    temperatures = [(0.0, 0.3, 1.0, 0.8)[row % 4] for row in range(num_rows)]
    rows = SamplingRows.build(
        temperatures=temperatures,
        top_ks=[(0, 0, 3, 0, 40)[row % 5] for row in range(num_rows)],
        top_ps=[(1.0, 0.9, 1.0, 0.5, 1.0, 1.0)[row % 6] for row in range(num_rows)],
        seeds=[2**64 - 1 - row for row in range(num_rows)],
        positions=[100 + row for row in range(num_rows)],
        device=device,
    )
    trees = PackedTrees.pack([0] * len(sessions), draft_tokens, [parents for _, parents in sessions], device)
    return Case(logits_TV.to(device), trees, rows)


def make_chain_case(
    chains: str, vocab_size: int, dtype: torch.dtype, device: str = "cpu", seed: int = 0, *, one_hot: bool = False
) -> ChainCase:
    """Drafts drawn from a law near the target's; all rules of sampling; NaN in laws that no token comes from."""
    generator = torch.Generator().manual_seed(seed + vocab_size)
    lengths = CHAIN_LENGTHS[chains]
    num_rows = sum(length + 1 for length in lengths)
    logits_TV = (torch.randn(num_rows, vocab_size, generator=generator) * 2).round(decimals=1).to(dtype)
    near_TV = logits_TV.double() + torch.randn(num_rows, vocab_size, generator=generator, dtype=torch.float64) * 0.3
    draft_probs_TV = torch.softmax(near_TV, dim=1)
    drawn_T = torch.multinomial(draft_probs_TV, 1, generator=generator)[:, 0] if num_rows else torch.empty(0)
    if one_hot:
        drawn_T = logits_TV.float().argmax(dim=1)
        draft_probs_TV = torch.zeros_like(draft_probs_TV).scatter_(1, drawn_T[:, None], 1.0)
    tokens: list[list[int]] = []
    first_row = 0
    for length in lengths:
        tokens.append([int(token) for token in drawn_T[first_row : first_row + length]])
        first_row += length + 1
        draft_probs_TV[first_row - 1] = float("nan")
    rows = SamplingRows.build(
        temperatures=[(0.8, 1.0, 1.0, 0.0)[row % 4] for row in range(num_rows)],
        top_ks=[(0, 0, 3, 0, 40)[row % 5] for row in range(num_rows)],
        top_ps=[(1.0, 0.9, 1.0, 0.5, 1.0, 1.0)[row % 6] for row in range(num_rows)],
        seeds=[seed * 1000 + row for row in range(num_rows)],
        positions=[100 + row for row in range(num_rows)],
        device=device,
    )
    parents = [list(range(-1, length - 1)) for length in lengths]
    return ChainCase(
        logits_TV.to(device),
        PackedTrees.pack([0] * len(lengths), tokens, parents, device),
        draft_probs_TV.to(device),
        rows,
        torch.arange(7, 7 + len(lengths), device=device),
    )
