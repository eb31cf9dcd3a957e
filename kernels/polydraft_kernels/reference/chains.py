"""Chains among packed trees, and what chain rejection and block verification share. B sessions, T rows, V vocabulary,
N rows of the longest session.

Row n of a session has read its first n drafted tokens; its target law p and draft law q are those of token n + 1. After
the last drafted token q is 0, so that nothing is accepted there and the residual law is p: the bonus token.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from polydraft_kernels.noise import Stream
from polydraft_kernels.noise_rows import gumbel_rows
from polydraft_kernels.packing import PackedTrees, SamplingRows, Walk
from polydraft_kernels.reference.support import target_probs


class ChainLaws(NamedTuple):
    """Both laws and where each session's rows are."""

    target_probs_TV: Tensor
    """float64."""
    draft_probs_TV: Tensor
    """float64, 0 in a session's last row."""
    next_tokens_T: Tensor
    """int64: the drafted token that each row's laws are of; anything in a session's last row."""
    rows_BN: Tensor
    """int64: packed row n of the session, its last row where it has fewer."""
    lengths_B: Tensor
    """int64: how many tokens were drafted."""


def chain_laws(logits_TV: Tensor, trees: PackedTrees, draft_probs_TV: Tensor, rows: SamplingRows) -> ChainLaws:
    """ValueError if a tree is not a chain."""
    if not trees.are_chains:
        raise ValueError(
            "the laws of chains were asked for but a tree has branches; use the coupled verifier for trees"
        )
    last_rows_B = trees.row_offsets_B1[1:] - 1
    lengths_B = last_rows_B - trees.row_offsets_B1[:-1]
    places_N = torch.arange(trees.max_draft_len + 1, device=lengths_B.device)
    return ChainLaws(
        target_probs(logits_TV, rows),
        draft_probs_TV.double().index_fill(0, last_rows_B, 0.0),
        trees.tokens_T.roll(-1),
        (trees.row_offsets_B1[:-1, None] + places_N).minimum(last_rows_B[:, None]),
        lengths_B,
    )


def probability_ratios(target_probs_TV: Tensor, draft_probs_TV: Tensor, tokens_T: Tensor) -> Tensor:
    """p(x) / q(x) of each row's token, float64 [T].

    0 for a token that q cannot produce: it is never accepted, and the residual law gives it its target probability.
    """
    target_T = target_probs_TV.gather(1, tokens_T[:, None])[:, 0]
    draft_T = draft_probs_TV.gather(1, tokens_T[:, None])[:, 0]
    return torch.where(draft_T > 0, target_T / draft_T, 0.0)


def residual_probs(target_probs_TV: Tensor, draft_probs_TV: Tensor, weights_T: Tensor | float = 1.0) -> Tensor:
    """norm((w p - q)+), float64 [T, V]; p itself where nothing is left (such a rejection has probability 0)."""
    residual_TV = surplus(target_probs_TV, draft_probs_TV, weights_T)
    total_T1 = residual_TV.sum(dim=1, keepdim=True)
    return torch.where(total_T1 > 0, residual_TV / total_T1, target_probs_TV)


def surplus(target_probs_TV: Tensor, draft_probs_TV: Tensor, weights_T: Tensor | float = 1.0) -> Tensor:
    """(w p - q)+, float64 [T, V]."""
    weights_T1 = weights_T[:, None] if isinstance(weights_T, Tensor) else weights_T
    return (weights_T1 * target_probs_TV - draft_probs_TV).clamp_min(0.0)


def finish_walk(
    laws: ChainLaws, rows: SamplingRows, rounds_B: Tensor, num_accepted_B: Tensor, weights_B: Tensor | float = 1.0
) -> Walk:
    """The walk that accepts so many tokens of each chain and draws one more from the residual law there."""
    rows_B = laws.rows_BN.gather(1, num_accepted_B[:, None])[:, 0]
    residual_BV = residual_probs(laws.target_probs_TV[rows_B], laws.draft_probs_TV[rows_B], weights_B)
    noise_BV = gumbel_rows(
        rows.keys_T[rows_B], rows.positions_T[rows_B], residual_BV.shape[1], stream=Stream.ACCEPT, rounds_T=rounds_B
    )
    places_D = torch.arange(1, laws.rows_BN.shape[1], device=num_accepted_B.device)
    return Walk(
        num_accepted_B=num_accepted_B,
        free_token_B=(residual_BV.log() + noise_BV).argmax(dim=1),
        path_BD=torch.where(places_D <= num_accepted_B[:, None], places_D, -1),
    )
