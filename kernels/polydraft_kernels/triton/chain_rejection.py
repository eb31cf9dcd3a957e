"""Rejection sampling of chains (Leviathan et al. 2211.17192; Chen et al. 2302.01318). B sessions, T rows, V vocabulary.

    accept x with probability min(1, p(x) / q(x));  on rejection emit y ~ norm((p - q)+);  after the last y ~ p

`row_laws` reads the logits once, `chains` draws; here `reject_kernel`, grid [B], counts the tokens before the first
rejection. Five launches, none of which waits for the host.
"""
# A kernel's arguments have types only when it is compiled for them.
# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from polydraft_kernels.packing import PackedTrees, SamplingRows, Walk
from polydraft_kernels.triton.chains import draw, finish_walk
from polydraft_kernels.triton.choose_greedy import with_contiguous_rows
from polydraft_kernels.triton.row_laws import row_laws


@triton.jit
def reject_kernel(ratios, uniforms, row_offsets, num_accepted, MAX_ROWS: tl.constexpr):
    """Grid [B]. MAX_ROWS is a power of two, at least the rows of the largest session."""
    session = tl.program_id(0).to(tl.int64)
    first_row = tl.load(row_offsets + session)
    num_rows = tl.load(row_offsets + session + 1) - first_row
    rows = tl.arange(0, MAX_ROWS)
    ratio = tl.load(ratios + first_row + rows, mask=rows < num_rows, other=0.0)
    chance = tl.load(uniforms + first_row + rows, mask=rows < num_rows, other=1.0)
    # A session's last row has ratio 0, so there is always a first rejection.
    tl.store(num_accepted + session, tl.min(tl.where(chance < ratio, MAX_ROWS, rows), 0))


def verify_chain_rejection(
    logits_TV: Tensor, trees: PackedTrees, draft_probs_TV: Tensor, rows: SamplingRows, rounds_B: Tensor
) -> Walk:
    """Verify chains whose law is known.

    Row t of `draft_probs_TV` (float64 or float32) is the law that the token of row t + 1 was drawn from; a session's
    last row is ignored. `rounds_B` int64 counts a request's rounds and never restarts. ValueError if a tree is not a
    chain.
    """
    draft_probs_TV = with_contiguous_rows(draft_probs_TV)
    num_accepted_B = torch.empty(trees.num_sessions, dtype=torch.int64, device=logits_TV.device)
    weights_B = torch.ones(trees.num_sessions, dtype=torch.float64, device=logits_TV.device)
    if trees.num_sessions == 0:
        return Walk(num_accepted_B, num_accepted_B, num_accepted_B.new_empty(0, trees.max_draft_len))
    laws = row_laws(logits_TV, rows)
    draws = draw(laws, trees, draft_probs_TV, rows, rounds_B)
    reject_kernel[(trees.num_sessions,)](
        *draws, trees.row_offsets_B1, num_accepted_B, MAX_ROWS=triton.next_power_of_2(trees.max_draft_len + 1)
    )
    return finish_walk(laws, trees, draft_probs_TV, rows, rounds_B, num_accepted_B, weights_B)
