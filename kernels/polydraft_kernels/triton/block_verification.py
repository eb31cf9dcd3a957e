"""Block verification of chains (Sun et al. 2403.10444, Algorithm 2). B sessions, T rows, V vocabulary.

    w_0 = 1,  w_i = min(1, w_{i-1} p_i(x_i) / q_i(x_i))
    S_i = sum_v (w_i p_{i+1}(v) - q_{i+1}(v))+,  h_i = S_i / (S_i + 1 - w_i)
    accept x_1 .. x_n with n = max {i : u_i <= h_i}, then emit y ~ norm((w_n p_{n+1} - q_{n+1})+)

`row_laws` and `chains` read logits and draw. Here `weights_kernel`, grid [B], makes w of each row; `surplus_kernel`,
grid [T, blocks], the parts of S; `accept_kernel`, grid [B], finds n. Seven launches, none of which waits for the host.
All in float64; probabilities are in registers only.
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
from polydraft_kernels.triton.row_laws import NUM_WARPS, blocks_of, probabilities, row_laws


@triton.jit
def weights_kernel(ratios, row_offsets, weights):
    """Grid [B]."""
    session = tl.program_id(0).to(tl.int64)
    first_row = tl.load(row_offsets + session)
    num_rows = (tl.load(row_offsets + session + 1) - first_row).to(tl.int32)
    weight = tl.full((), 1.0, tl.float64)
    for place in range(0, num_rows):
        tl.store(weights + first_row + place, weight)
        weight = tl.minimum(weight * tl.load(ratios + first_row + place), 1.0)


@triton.jit
def surplus_kernel(
    logits,
    row_stride,
    vocab_size,
    temperatures,
    end_logits,
    end_ids,
    peaks,
    totals,
    choices,
    draft_probs,
    draft_stride,
    sessions,
    row_offsets,
    weights,
    surpluses,
    BLOCK: tl.constexpr,
):
    """Grid [T, blocks]; `surpluses` [T, blocks]."""
    row = tl.program_id(0).to(tl.int64)
    ids = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    target = probabilities(
        logits, row_stride, vocab_size, temperatures, end_logits, end_ids, peaks, totals, choices, row, ids
    )
    has_token = row + 1 < tl.load(row_offsets + tl.load(sessions + row) + 1)
    # A bound instead of `& has_token`, which the interpreter cannot broadcast.
    num_with_law = tl.where(has_token, vocab_size, 0)
    draft = tl.load(draft_probs + row * draft_stride + ids, mask=ids < num_with_law, other=0.0).to(tl.float64)
    surplus = tl.sum(tl.maximum(tl.load(weights + row) * target - draft, 0.0), 0)
    tl.store(surpluses + row * tl.num_programs(1) + tl.program_id(1), surplus)


@triton.jit
def accept_kernel(
    uniforms,
    weights,
    surpluses,
    row_offsets,
    num_accepted,
    weights_of_sessions,
    num_blocks,
    MAX_BLOCKS: tl.constexpr,
):
    """Grid [B]. MAX_BLOCKS is a power of two, at least num_blocks."""
    session = tl.program_id(0).to(tl.int64)
    first_row = tl.load(row_offsets + session)
    num_rows = (tl.load(row_offsets + session + 1) - first_row).to(tl.int32)
    blocks = tl.arange(0, MAX_BLOCKS)
    accepted = tl.full((), 0, tl.int32)
    weight_there = tl.full((), 1.0, tl.float64)
    for place in range(1, num_rows):
        row = first_row + place
        parts = tl.load(surpluses + row * num_blocks + blocks, mask=blocks < num_blocks, other=0.0)
        surplus = tl.sum(parts, 0)
        weight = tl.load(weights + row)
        total = surplus + (1.0 - weight)
        # Both laws are equal where nothing is over and nothing is missing.
        acceptance = tl.where(total > 0.0, surplus / tl.where(total > 0.0, total, 1.0), 1.0)
        # The uniform of a token is drawn in the row that proposes it.
        is_accepted = tl.load(uniforms + row - 1) <= acceptance
        accepted = tl.where(is_accepted, place, accepted)
        weight_there = tl.where(is_accepted, weight, weight_there)
    tl.store(num_accepted + session, accepted)
    tl.store(weights_of_sessions + session, weight_there)


def verify_block(
    logits_TV: Tensor, trees: PackedTrees, draft_probs_TV: Tensor, rows: SamplingRows, rounds_B: Tensor
) -> Walk:
    """Verify chains whose law is known; arguments as of `verify_chain_rejection`."""
    device = logits_TV.device
    draft_probs_TV = with_contiguous_rows(draft_probs_TV)
    num_accepted_B = torch.empty(trees.num_sessions, dtype=torch.int64, device=device)
    weights_B = torch.empty(trees.num_sessions, dtype=torch.float64, device=device)
    if trees.num_sessions == 0:
        return Walk(num_accepted_B, num_accepted_B, num_accepted_B.new_empty(0, trees.max_draft_len))
    laws = row_laws(logits_TV, rows)
    draws = draw(laws, trees, draft_probs_TV, rows, rounds_B)
    weights_T = torch.empty_like(draws.ratios_T)
    weights_kernel[(trees.num_sessions,)](draws.ratios_T, trees.row_offsets_B1, weights_T, num_warps=1)
    block, num_blocks = blocks_of(laws.vocab_size)
    surpluses_TN = torch.empty(trees.num_rows, num_blocks, dtype=torch.float64, device=device)
    surplus_kernel[(trees.num_rows, num_blocks)](
        *laws,
        draft_probs_TV,
        draft_probs_TV.stride(0),
        trees.session_of_rows(),
        trees.row_offsets_B1,
        weights_T,
        surpluses_TN,
        BLOCK=block,
        num_warps=NUM_WARPS,
    )
    accept_kernel[(trees.num_sessions,)](
        draws.uniforms_T,
        weights_T,
        surpluses_TN,
        trees.row_offsets_B1,
        num_accepted_B,
        weights_B,
        num_blocks,
        MAX_BLOCKS=triton.next_power_of_2(num_blocks),
        num_warps=1,
    )
    return finish_walk(laws, trees, draft_probs_TV, rows, rounds_B, num_accepted_B, weights_B)
