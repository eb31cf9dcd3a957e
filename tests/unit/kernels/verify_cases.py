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


CHAINS: dict[str, list[list[int]]] = {
    "one_chain": [[-1, 0, 1, 2]],
    "mixed_chains": [[-1, 0, 1], [], [-1, 0, 1, 2, 3], [-1]],
    "no_drafts": [[], []],
    "no_session": [],
}
"""Parents of drawn nodes, per session."""
TREES: dict[str, list[list[int]]] = {
    "two_by_two": [[-1, -1, 0, 0, 1, 1]],
    "mixed_trees": [[-1, -1, -1, 0, 2, 2, 4], [], [-1, 0, 1], [-1, -1]],
}


@dataclass(frozen=True, slots=True)
class DrawnCase:
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


def make_drawn_case(
    parents: list[list[int]],
    vocab_size: int,
    dtype: torch.dtype,
    device: str = "cpu",
    seed: int = 0,
    *,
    one_hot: bool = False,
) -> DrawnCase:
    """Siblings drawn without replacement from a law near the target's; all rules of sampling; NaN in laws of leaves.

    With `one_hot` the drafts, chains only, are the target's likeliest tokens. Where the vocabulary is too small for all
    siblings, some repeat.
    """
    generator = torch.Generator().manual_seed(seed + vocab_size)
    num_rows = sum(len(of_session) + 1 for of_session in parents)
    logits_TV = (torch.randn(num_rows, vocab_size, generator=generator) * 2).round(decimals=1).to(dtype)
    near_TV = logits_TV.double() + torch.randn(num_rows, vocab_size, generator=generator, dtype=torch.float64) * 0.3
    draft_probs_TV = torch.softmax(near_TV, dim=1)
    if one_hot:
        likeliest_T1 = logits_TV.float().argmax(dim=1, keepdim=True)
        draft_probs_TV = torch.zeros_like(draft_probs_TV).scatter_(1, likeliest_T1, 1.0)
    tokens: list[list[int]] = []
    first_row = 0
    for of_session in parents:
        drawn: list[int] = []
        for node, parent in enumerate(of_session):
            probs_V = draft_probs_TV[first_row + parent + 1].clone()
            siblings = [drawn[other] for other in range(node) if of_session[other] == parent]
            probs_V[siblings] = 0.0
            drawn.append(int(torch.multinomial(probs_V, 1, generator=generator)) if bool((probs_V > 0).any()) else 0)
        tokens.append(drawn)
        leaves = {*range(-1, len(of_session))} - {*of_session}
        draft_probs_TV[[first_row + leaf + 1 for leaf in leaves]] = float("nan")
        first_row += len(of_session) + 1
    rows = SamplingRows.build(
        temperatures=[(0.8, 1.0, 1.0, 0.0)[row % 4] for row in range(num_rows)],
        top_ks=[(0, 0, 3, 0, 40)[row % 5] for row in range(num_rows)],
        top_ps=[(1.0, 0.9, 1.0, 0.5, 1.0, 1.0)[row % 6] for row in range(num_rows)],
        seeds=[seed * 1000 + row for row in range(num_rows)],
        positions=[100 + row for row in range(num_rows)],
        device=device,
    )
    return DrawnCase(
        logits_TV.to(device),
        PackedTrees.pack([0] * len(parents), tokens, parents, device),
        draft_probs_TV.to(device),
        rows,
        torch.arange(7, 7 + len(parents), device=device),
    )
