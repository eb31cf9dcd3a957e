"""Rejection sampling of chains (Leviathan et al. 2211.17192; Chen et al. 2302.01318). B sessions, T rows, V vocabulary,
N rows of the longest session.

    accept x with probability min(1, p(x) / q(x));  on rejection emit y ~ norm((p - q)+);  after the last y ~ p

p is the target's law after all transforms, q the law that x was really drawn from. All in float64. The text depends on
the drafts, so the randomness is keyed by round and position: numbers of a position that an earlier round has looked
at are not used again.
"""

from __future__ import annotations

from torch import Tensor

from polydraft_kernels.noise_rows import accept_uniforms
from polydraft_kernels.packing import PackedTrees, SamplingRows, Walk
from polydraft_kernels.reference.chains import chain_laws, finish_walk, probability_ratios


def verify_chain_rejection(
    logits_TV: Tensor, trees: PackedTrees, draft_probs_TV: Tensor, rows: SamplingRows, rounds_B: Tensor
) -> Walk:
    """Verify chains whose law is known.

    Row t of `draft_probs_TV` is the law that the token of row t + 1 was drawn from; a session's last row is ignored.
    `rounds_B` int64 counts a request's rounds and never restarts. ValueError if a tree is not a chain.
    """
    laws = chain_laws(logits_TV, trees, draft_probs_TV, rows)
    ratios_T = probability_ratios(laws.target_probs_TV, laws.draft_probs_TV, laws.next_tokens_T)
    rounds_T = rounds_B[trees.session_of_rows()]
    accepted_T = accept_uniforms(rows.keys_T, rows.positions_T, rounds_T)[:, 0] < ratios_T
    # Nothing is accepted in a session's last row, so the count ends there.
    num_accepted_B = accepted_T[laws.rows_BN].long().cumprod(dim=1).sum(dim=1)
    return finish_walk(laws, rows, rounds_B, num_accepted_B)
