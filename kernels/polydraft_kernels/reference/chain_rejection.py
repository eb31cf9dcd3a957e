"""Rejection sampling of chains (Leviathan et al. 2211.17192; Chen et al. 2302.01318). T rows, V vocabulary.

    accept x with probability min(1, p(x) / q(x));  on rejection emit y ~ norm((p - q)+);  after the last y ~ p

p is the target's law after all transforms, q the law that x was really drawn from. All in float64. The text depends on
the drafts, so the randomness is keyed by round and position: numbers of a position that an earlier round has looked
at are not used again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from polydraft_kernels.noise import Stream
from polydraft_kernels.noise_rows import accept_uniforms, gumbel_rows
from polydraft_kernels.packing import PackedTrees, SamplingRows, Walk
from polydraft_kernels.reference.support import target_probs
from polydraft_kernels.reference.walk_trees import walk_trees


def acceptance_probs(target_probs_TV: Tensor, draft_probs_TV: Tensor, tokens_T: Tensor) -> Tensor:
    """min(1, p(x) / q(x)) of each row's draft token, float64 [T].

    A token that q cannot produce is never accepted; the residual law then gives it its whole target probability.
    """
    target_T = target_probs_TV.gather(1, tokens_T[:, None])[:, 0]
    draft_T = draft_probs_TV.gather(1, tokens_T[:, None])[:, 0]
    return torch.where(draft_T > 0, target_T / draft_T, 0.0).clamp_max(1.0)


def residual_probs(target_probs_TV: Tensor, draft_probs_TV: Tensor) -> Tensor:
    """norm((p - q)+), float64 [T, V]; p itself where p and q are equal (a rejection then has probability 0)."""
    residual_TV = (target_probs_TV - draft_probs_TV).clamp_min(0.0)
    total_T1 = residual_TV.sum(dim=1, keepdim=True)
    return torch.where(total_T1 > 0, residual_TV / total_T1, target_probs_TV)


def verify_chain_rejection(
    logits_TV: Tensor, trees: PackedTrees, draft_probs_TV: Tensor, rows: SamplingRows, rounds_B: Tensor
) -> Walk:
    """Verify chains whose law is known.

    Row t of `draft_probs_TV` is the law that the token of row t + 1 was drawn from; a session's last row is ignored.
    `rounds_B` int64 counts a request's rounds and never restarts. ValueError if a tree is not a chain.
    """
    sessions_T = trees.session_of_rows()
    row_in_session_T = torch.arange(trees.num_rows, device=sessions_T.device) - trees.row_offsets_B1[sessions_T]
    if not torch.equal(trees.parents_T, row_in_session_T - 1):
        raise ValueError("chain rejection was given a tree with branches; use the coupled verifier for trees")
    is_last_T = torch.ones_like(sessions_T, dtype=torch.bool)
    is_last_T[:-1] = sessions_T[1:] != sessions_T[:-1]
    next_tokens_T = trees.tokens_T.roll(-1)
    rounds_T = rounds_B[sessions_T]

    target_TV = target_probs(logits_TV, rows)
    # With q = 0 after a session's last token nothing is accepted there and the residual law is p: the bonus token.
    draft_TV = draft_probs_TV.double().masked_fill(is_last_T[:, None], 0.0)
    accepted_T = accept_uniforms(rows.keys_T, rows.positions_T, rounds_T) < acceptance_probs(
        target_TV, draft_TV, next_tokens_T
    )
    noise_TV = gumbel_rows(rows.keys_T, rows.positions_T, logits_TV.shape[1], stream=Stream.ACCEPT, rounds_T=rounds_T)
    resampled_T = (residual_probs(target_TV, draft_TV).log() + noise_TV).argmax(dim=1)
    return walk_trees(trees, torch.where(accepted_T, next_tokens_T, resampled_T))
