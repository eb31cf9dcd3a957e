"""What chain rejection and block verification share: ratios, uniforms and the last token. B sessions, T rows, V tokens.

Row n of a session has read its first n drafted tokens; its target law p and draft law q are those of token n + 1. After
the last drafted token q is 0, so that nothing is accepted there and the residual law is p: the bonus token.

    ratios_T = p(x) / q(x) of each row's drafted token, uniforms_T = what it is compared with
    free token = argmax of ln (w p - q)+ + gumbel at the row where the accepted path ends

`draws_kernel`, grid [T], reads one probability a row. `resample_kernel`, grid [B, blocks], looks at one row a session
and keeps the best of each block, by the residual law and by p, which stands in where nothing is left; `finish_kernel`,
grid [B], merges. The residual law is in registers only; its normaliser is the same for all tokens and left out.
"""
# A kernel's arguments have types only when it is compiled for them.
# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from polydraft_kernels import noise
from polydraft_kernels.packing import PackedTrees, SamplingRows, Walk
from polydraft_kernels.triton.choose_greedy import NO_ID, block_argmax
from polydraft_kernels.triton.noise import gumbel, noise_bits, row_state, uniform
from polydraft_kernels.triton.row_laws import NUM_WARPS, RowLaws, blocks_of, probabilities

ACCEPT_STREAM: tl.constexpr = tl.constexpr(int(noise.Stream.ACCEPT))
ACCEPT_ID: tl.constexpr = tl.constexpr(noise.ACCEPT_ID)


class Draws(NamedTuple):
    ratios_T: Tensor
    """float64: p(x) / q(x) of the drafted token, 0 in a session's last row and where q(x) is 0."""
    uniforms_T: Tensor
    """float64."""


@triton.jit
def draws_kernel(
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
    tokens,
    sessions,
    row_offsets,
    keys,
    positions,
    rounds,
    ratios,
    uniforms,
):
    """Grid [T]."""
    row = tl.program_id(0).to(tl.int64)
    session = tl.load(sessions + row)
    has_token = row + 1 < tl.load(row_offsets + session + 1)
    token = tl.load(tokens + row + 1, mask=has_token, other=0)
    target = probabilities(
        logits, row_stride, vocab_size, temperatures, end_logits, end_ids, peaks, totals, choices, row, token
    )
    draft = tl.load(draft_probs + row * draft_stride + token).to(tl.float64)
    can_accept = has_token & (draft > 0.0)
    tl.store(ratios + row, tl.where(can_accept, target / tl.where(can_accept, draft, 1.0), 0.0))
    state = row_state(tl.load(keys + row), tl.load(positions + row), ACCEPT_STREAM, tl.load(rounds + session))
    tl.store(uniforms + row, uniform(noise_bits(state, tl.full((), ACCEPT_ID, tl.int64))))


@triton.jit
def resample_kernel(
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
    row_offsets,
    keys,
    positions,
    rounds,
    num_accepted,
    weights,
    best_scores,
    best_ids,
    BLOCK: tl.constexpr,
):
    """Grid [B, blocks]; `best_scores` and `best_ids` [2, B, blocks], by the residual law and by p."""
    session = tl.program_id(0).to(tl.int64)
    row = tl.load(row_offsets + session) + tl.load(num_accepted + session)
    has_token = row + 1 < tl.load(row_offsets + session + 1)
    ids = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    target = probabilities(
        logits, row_stride, vocab_size, temperatures, end_logits, end_ids, peaks, totals, choices, row, ids
    )
    # A bound instead of `& has_token`, which the interpreter cannot broadcast.
    num_with_law = tl.where(has_token, vocab_size, 0)
    draft = tl.load(draft_probs + row * draft_stride + ids, mask=ids < num_with_law, other=0.0).to(tl.float64)
    residual = tl.load(weights + session) * target - draft
    state = row_state(tl.load(keys + row), tl.load(positions + row), ACCEPT_STREAM, tl.load(rounds + session))
    noise_of_ids = gumbel(state, ids)
    place = session * tl.num_programs(1) + tl.program_id(1)
    best, choice = block_argmax(log_or_minus_infinity(residual) + noise_of_ids, ids)
    tl.store(best_scores + place, best)
    tl.store(best_ids + place, choice)
    best, choice = block_argmax(log_or_minus_infinity(target) + noise_of_ids, ids)
    place += tl.num_programs(0) * tl.num_programs(1)
    tl.store(best_scores + place, best)
    tl.store(best_ids + place, choice)


@triton.jit
def log_or_minus_infinity(values):
    return tl.where(values > 0.0, tl.log(tl.where(values > 0.0, values, 1.0)), float("-inf"))


@triton.jit
def finish_kernel(
    best_scores,
    best_ids,
    num_accepted,
    free_tokens,
    paths,
    num_blocks,
    max_draft_len,
    MAX_BLOCKS: tl.constexpr,
):
    """Grid [B]. MAX_BLOCKS is a power of two, at least num_blocks."""
    session = tl.program_id(0).to(tl.int64)
    blocks = tl.arange(0, MAX_BLOCKS)
    places = session * num_blocks + blocks
    num_partials = tl.num_programs(0) * num_blocks
    scores = tl.load(best_scores + places, mask=blocks < num_blocks, other=float("-inf"))
    ids = tl.load(best_ids + places, mask=blocks < num_blocks, other=NO_ID)
    target_scores = tl.load(best_scores + num_partials + places, mask=blocks < num_blocks, other=float("-inf"))
    target_ids = tl.load(best_ids + num_partials + places, mask=blocks < num_blocks, other=NO_ID)
    is_left = tl.max(scores, 0) > float("-inf")
    scores = tl.where(is_left, scores, target_scores)
    ids = tl.where(is_left, ids, target_ids)
    tl.store(free_tokens + session, tl.min(tl.where(scores == tl.max(scores, 0), ids, NO_ID), 0))
    accepted = tl.load(num_accepted + session)
    for depth in range(0, max_draft_len):
        tl.store(paths + session * max_draft_len + depth, tl.where(depth < accepted, depth + 1, -1))


def draw(laws: RowLaws, trees: PackedTrees, draft_probs_TV: Tensor, rows: SamplingRows, rounds_B: Tensor) -> Draws:
    """Ratio and uniform of each row's drafted token."""
    if not trees.are_chains:
        raise ValueError("laws of chains were asked for but a tree has branches; use the coupled verifier for trees")
    draws = Draws(*torch.empty(2, trees.num_rows, dtype=torch.float64, device=draft_probs_TV.device))
    draws_kernel[(trees.num_rows,)](
        *laws,
        draft_probs_TV,
        draft_probs_TV.stride(0),
        trees.tokens_T,
        trees.session_of_rows(),
        trees.row_offsets_B1,
        rows.keys_T,
        rows.positions_T,
        rounds_B,
        *draws,
        num_warps=1,
    )
    return draws


def finish_walk(
    laws: RowLaws,
    trees: PackedTrees,
    draft_probs_TV: Tensor,
    rows: SamplingRows,
    rounds_B: Tensor,
    num_accepted_B: Tensor,
    weights_B: Tensor,
) -> Walk:
    """The walk that accepts so many tokens of each chain and draws one more from the residual law there."""
    num_sessions, device = trees.num_sessions, num_accepted_B.device
    block, num_blocks = blocks_of(laws.vocab_size)
    scores_2BN = torch.empty(2, num_sessions, num_blocks, dtype=torch.float64, device=device)
    ids_2BN = torch.empty(2, num_sessions, num_blocks, dtype=torch.int32, device=device)
    walk = Walk(
        num_accepted_B=num_accepted_B,
        free_token_B=torch.empty(num_sessions, dtype=torch.int64, device=device),
        path_BD=torch.empty(num_sessions, trees.max_draft_len, dtype=torch.int64, device=device),
    )
    resample_kernel[(num_sessions, num_blocks)](
        *laws,
        draft_probs_TV,
        draft_probs_TV.stride(0),
        trees.row_offsets_B1,
        rows.keys_T,
        rows.positions_T,
        rounds_B,
        num_accepted_B,
        weights_B,
        scores_2BN,
        ids_2BN,
        BLOCK=block,
        num_warps=NUM_WARPS,
    )
    finish_kernel[(num_sessions,)](
        scores_2BN,
        ids_2BN,
        num_accepted_B,
        walk.free_token_B,
        walk.path_BD,
        num_blocks,
        trees.max_draft_len,
        MAX_BLOCKS=triton.next_power_of_2(num_blocks),
    )
    return walk
