"""Block verification of chains (Sun et al. 2403.10444, Algorithm 2). B sessions, T rows, V vocabulary, N rows of the
longest session.

    w_0 = 1,  w_i = min(1, w_{i-1} p_i(x_i) / q_i(x_i))
    S_i = sum_v (w_i p_{i+1}(v) - q_{i+1}(v))+,  h_i = S_i / (S_i + 1 - w_i)
    accept x_1 .. x_n with n = max {i : u_i <= h_i}, then emit y ~ norm((w_n p_{n+1} - q_{n+1})+)

p, q and the randomness are those of `chain_rejection`. q is 0 after the last drafted token, where therefore S = w,
h = w and y ~ p. In expectation at least as many tokens are accepted as there, because what one token lacks another may
make up for. A later i may be accepted where an earlier one is not, so uniforms and tokens beyond the cut are looked
at: this is why the randomness is keyed by round. All in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from polydraft_kernels.noise_rows import accept_uniforms
from polydraft_kernels.packing import PackedTrees, SamplingRows, Walk
from polydraft_kernels.reference.chains import chain_laws, finish_walk, probability_ratios, surplus


def verify_block(
    logits_TV: Tensor, trees: PackedTrees, draft_probs_TV: Tensor, rows: SamplingRows, rounds_B: Tensor
) -> Walk:
    """Verify chains whose law is known; arguments as of `verify_chain_rejection`."""
    laws = chain_laws(logits_TV, trees, draft_probs_TV, rows)
    ratios_T = probability_ratios(laws.target_probs_TV, laws.draft_probs_TV, laws.next_tokens_T)
    weights_BN = path_weights(ratios_T[laws.rows_BN[:, :-1]])
    weights_T = torch.ones_like(ratios_T)
    # Columns beyond a session's end repeat its last row, so they are written before the column that counts.
    for place in reversed(range(weights_BN.shape[1])):
        weights_T[laws.rows_BN[:, place]] = weights_BN[:, place]
    surplus_T = surplus(laws.target_probs_TV, laws.draft_probs_TV, weights_T).sum(dim=1)
    acceptance_BN = acceptance_probs(weights_BN, surplus_T[laws.rows_BN])

    rounds_T = rounds_B[trees.session_of_rows()]
    uniforms_T = accept_uniforms(rows.keys_T, rows.positions_T, rounds_T)[:, 0]
    places_N = torch.arange(1, acceptance_BN.shape[1], device=uniforms_T.device)
    is_reached_BN = uniforms_T[laws.rows_BN[:, :-1]] <= acceptance_BN[:, 1:]
    is_reached_BN &= places_N <= laws.lengths_B[:, None]
    num_accepted_B = torch.nn.functional.pad(places_N * is_reached_BN, (1, 0)).amax(dim=1)
    weights_B = weights_BN.gather(1, num_accepted_B[:, None])[:, 0]
    return finish_walk(laws, rows, rounds_B, num_accepted_B, weights_B)


def path_weights(ratios_BD: Tensor) -> Tensor:
    """w_0 to w_D of chains of D tokens, float64 [B, D + 1]."""
    weights = [torch.ones(ratios_BD.shape[0], dtype=torch.float64, device=ratios_BD.device)]
    for ratios_B in ratios_BD.unbind(dim=1):
        weights.append((weights[-1] * ratios_B).clamp_max(1.0))
    return torch.stack(weights, dim=1)


def acceptance_probs(weights: Tensor, surpluses: Tensor) -> Tensor:
    """h of w and S; 1 where both laws are equal (w = 1 and S = 0)."""
    total = surpluses + (1.0 - weights)
    return torch.where(total > 0, surpluses / total, 1.0)
