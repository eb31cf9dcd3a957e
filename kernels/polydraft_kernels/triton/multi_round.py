"""Multi-round rejection of trees whose siblings were drawn without replacement (SpecInfer, 2305.09781; Yang et al.
2401.06706). B sessions, T rows, V vocabulary, K most children of a node.

    accept x_i if u_i < P(x_i) / Q(x_i);  else  P <- norm((P - Q)+),  Q <- norm(Q without x_i);  at the end y ~ P

P and Q of a round follow from p, q, the children before it and two numbers a round: the sums that make them laws. So
all rounds of all rows are worked out before it is known which rows the walk will come to, and no law is in memory.
`left_kernel`, grid [T, blocks], adds up Q of each round; `surplus_kernel`, grid [T, blocks], launched once a round, the
parts of (P - Q)+; `ratios_kernel`, grid [T, K], makes P(x) / Q(x); `accept_kernel`, grid [B], walks; `resample_kernel`,
grid [B, blocks], and `best_kernel`, grid [B], draw the last token. Nothing waits for the host. All in float64.
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

from polydraft_kernels.packing import PackedTrees, SamplingRows, Walk
from polydraft_kernels.triton.chains import ACCEPT_ID, ACCEPT_STREAM, log_or_minus_infinity
from polydraft_kernels.triton.choose_greedy import NO_ID, block_argmax, with_contiguous_rows
from polydraft_kernels.triton.noise import gumbel, noise_bits, row_state, uniform
from polydraft_kernels.triton.row_laws import NUM_WARPS, blocks_of, probabilities, row_laws


class Candidates(NamedTuple):
    """The children of each row in the order in which they were drawn."""

    rows_TK: Tensor
    """int64: row within the session, -1 where there are fewer."""
    tokens_TK: Tensor
    """int64: -1 also where the law cannot have given the token: it is never accepted, and leaves the laws alone."""


@triton.jit
def laws_of_round(target, draft, ids, row, num_rounds, tokens, left_totals, surplus_totals, MAX_CHILDREN: tl.constexpr):
    """P, and Q without its divisor, of some ids once the first `num_rounds` candidates of a row are rejected."""
    for place in range(0, num_rounds):
        at = row * MAX_CHILDREN + place
        token = tl.load(tokens + at)
        total = tl.load(surplus_totals + at)
        surplus = tl.maximum(target - draft / tl.load(left_totals + at), 0.0)
        # Nothing is over where P = Q: such a rejection has probability 0.
        rejected = tl.where(total > 0.0, surplus / tl.where(total > 0.0, total, 1.0), target)
        target = tl.where(token >= 0, rejected, target)
        draft = tl.where(ids == token, 0.0, draft)
    return target, draft


@triton.jit
def left_kernel(
    draft_probs, draft_stride, vocab_size, tokens, num_children, parts, MAX_CHILDREN: tl.constexpr, BLOCK: tl.constexpr
):
    """Grid [T, blocks]; `parts` [T, blocks, K]."""
    row = tl.program_id(0).to(tl.int64)
    ids = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    # What stands in a leaf's law may be anything. A bound, because the interpreter cannot broadcast a condition.
    num_with_law = tl.where(tl.load(num_children + row) > 0, vocab_size, 0)
    draft = tl.load(draft_probs + row * draft_stride + ids, mask=ids < num_with_law, other=0.0).to(tl.float64)
    first_part = (row * tl.num_programs(1) + tl.program_id(1)) * MAX_CHILDREN
    for place in range(0, MAX_CHILDREN):
        tl.store(parts + first_part + place, tl.sum(draft, 0))
        draft = tl.where(ids == tl.load(tokens + row * MAX_CHILDREN + place), 0.0, draft)


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
    tokens,
    left_totals,
    surplus_totals,
    parts,
    place,
    MAX_CHILDREN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid [T, blocks]; `parts` [T, blocks] of the round at `place`, those before it being known."""
    row = tl.program_id(0).to(tl.int64)
    ids = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    target = probabilities(
        logits, row_stride, vocab_size, temperatures, end_logits, end_ids, peaks, totals, choices, row, ids
    )
    at = row * MAX_CHILDREN + place
    num_with_law = tl.where(tl.load(tokens + at) >= 0, vocab_size, 0)
    draft = tl.load(draft_probs + row * draft_stride + ids, mask=ids < num_with_law, other=0.0).to(tl.float64)
    target, draft = laws_of_round(target, draft, ids, row, place, tokens, left_totals, surplus_totals, MAX_CHILDREN)
    part = tl.sum(tl.maximum(target - draft / tl.load(left_totals + at), 0.0), 0)
    tl.store(parts + row * tl.num_programs(1) + tl.program_id(1), part)


@triton.jit
def ratios_kernel(
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
    left_totals,
    surplus_totals,
    ratios,
    MAX_CHILDREN: tl.constexpr,
):
    """Grid [T, K]."""
    row = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1)
    at = row * MAX_CHILDREN + place
    found = tl.load(tokens + at)
    token = tl.maximum(found, 0)
    target = probabilities(
        logits, row_stride, vocab_size, temperatures, end_logits, end_ids, peaks, totals, choices, row, token
    )
    draft = tl.load(draft_probs + row * draft_stride + token).to(tl.float64)
    target, draft = laws_of_round(target, draft, token, row, place, tokens, left_totals, surplus_totals, MAX_CHILDREN)
    can_accept = (found >= 0) & (draft > 0.0)
    ratio = target / tl.where(can_accept, draft / tl.load(left_totals + at), 1.0)
    tl.store(ratios + at, tl.where(can_accept, ratio, 0.0))


@triton.jit
def accept_kernel(
    children,
    ratios,
    row_offsets,
    keys,
    positions,
    rounds,
    num_accepted,
    ends,
    paths,
    max_draft_len,
    MAX_CHILDREN: tl.constexpr,
):
    """Grid [B]; `ends` are the packed rows where the paths end."""
    session = tl.program_id(0).to(tl.int64)
    first_row = tl.load(row_offsets + session)
    here = first_row * 0
    accepted = tl.full((), 0, tl.int64)
    goes_on = accepted == 0
    for depth in range(0, max_draft_len):
        row = first_row + here
        state = row_state(tl.load(keys + row), tl.load(positions + row), ACCEPT_STREAM, tl.load(rounds + session))
        chosen = here * 0 - 1
        for place in range(0, MAX_CHILDREN):
            chance = uniform(noise_bits(state, tl.full((), ACCEPT_ID, tl.int64) + place))
            is_accepted = (chosen < 0) & (chance < tl.load(ratios + row * MAX_CHILDREN + place))
            chosen = tl.where(is_accepted, tl.load(children + row * MAX_CHILDREN + place), chosen)
        goes_on = goes_on & (chosen >= 0)
        here = tl.where(goes_on, chosen, here)
        accepted += goes_on.to(tl.int64)
        tl.store(paths + session * max_draft_len + depth, tl.where(goes_on, chosen, -1))
    tl.store(num_accepted + session, accepted)
    tl.store(ends + session, first_row + here)


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
    tokens,
    left_totals,
    surplus_totals,
    num_children,
    keys,
    positions,
    rounds,
    ends,
    best_scores,
    best_ids,
    MAX_CHILDREN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid [B, blocks]."""
    session = tl.program_id(0).to(tl.int64)
    row = tl.load(ends + session)
    ids = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    target = probabilities(
        logits, row_stride, vocab_size, temperatures, end_logits, end_ids, peaks, totals, choices, row, ids
    )
    count = tl.load(num_children + row)
    num_with_law = tl.where(count > 0, vocab_size, 0)
    draft = tl.load(draft_probs + row * draft_stride + ids, mask=ids < num_with_law, other=0.0).to(tl.float64)
    target, draft = laws_of_round(target, draft, ids, row, count, tokens, left_totals, surplus_totals, MAX_CHILDREN)
    state = row_state(tl.load(keys + row), tl.load(positions + row), ACCEPT_STREAM, tl.load(rounds + session))
    best, choice = block_argmax(log_or_minus_infinity(target) + gumbel(state, ids), ids)
    place = session * tl.num_programs(1) + tl.program_id(1)
    tl.store(best_scores + place, best)
    tl.store(best_ids + place, choice)


@triton.jit
def best_kernel(best_scores, best_ids, free_tokens, num_blocks, MAX_BLOCKS: tl.constexpr):
    """Grid [B]. MAX_BLOCKS is a power of two, at least num_blocks."""
    session = tl.program_id(0).to(tl.int64)
    blocks = tl.arange(0, MAX_BLOCKS)
    scores = tl.load(best_scores + session * num_blocks + blocks, mask=blocks < num_blocks, other=float("-inf"))
    ids = tl.load(best_ids + session * num_blocks + blocks, mask=blocks < num_blocks, other=NO_ID)
    tl.store(free_tokens + session, tl.min(tl.where(scores == tl.max(scores, 0), ids, NO_ID), 0))


def verify_multi_round(
    logits_TV: Tensor, trees: PackedTrees, draft_probs_TV: Tensor, rows: SamplingRows, rounds_B: Tensor
) -> Walk:
    """Verify trees whose law is known; arguments as of the reference."""
    device, num_rows, num_sessions = logits_TV.device, trees.num_rows, trees.num_sessions
    num_accepted_B, free_token_B, ends_B = torch.empty(3, num_sessions, dtype=torch.int64, device=device)
    path_BD = torch.empty(num_sessions, trees.max_draft_len, dtype=torch.int64, device=device)
    if num_sessions == 0:
        return Walk(num_accepted_B, free_token_B, path_BD)
    draft_probs_TV = with_contiguous_rows(draft_probs_TV)
    count = max(trees.max_children, 1)
    candidates = candidates_of(trees, draft_probs_TV, count)
    num_children_T = (candidates.rows_TK >= 0).sum(dim=1)
    laws = row_laws(logits_TV, rows)
    block, num_blocks = blocks_of(laws.vocab_size)
    draft = (draft_probs_TV, draft_probs_TV.stride(0))

    parts_TNK = torch.empty(num_rows, num_blocks, count, dtype=torch.float64, device=device)
    left_kernel[(num_rows, num_blocks)](
        *draft,
        laws.vocab_size,
        candidates.tokens_TK,
        num_children_T,
        parts_TNK,
        MAX_CHILDREN=count,
        BLOCK=block,
        num_warps=NUM_WARPS,
    )
    left_TK = parts_TNK.sum(dim=1)
    left_TK.masked_fill_(left_TK <= 0.0, 1.0)  # of rounds that are not held
    surplus_TK = torch.empty_like(left_TK)
    rounds = (*laws, *draft, candidates.tokens_TK, left_TK, surplus_TK)
    parts_TN = torch.empty(num_rows, num_blocks, dtype=torch.float64, device=device)
    for place in range(count):
        surplus_kernel[(num_rows, num_blocks)](
            *rounds, parts_TN, place, MAX_CHILDREN=count, BLOCK=block, num_warps=NUM_WARPS
        )
        surplus_TK[:, place] = parts_TN.sum(dim=1)
    ratios_TK = torch.empty(num_rows, count, dtype=torch.float64, device=device)
    ratios_kernel[(num_rows, count)](*rounds, ratios_TK, MAX_CHILDREN=count, num_warps=1)

    keyed = (rows.keys_T, rows.positions_T, rounds_B)
    accept_kernel[(num_sessions,)](
        candidates.rows_TK,
        ratios_TK,
        trees.row_offsets_B1,
        *keyed,
        num_accepted_B,
        ends_B,
        path_BD,
        trees.max_draft_len,
        MAX_CHILDREN=count,
        num_warps=1,
    )
    scores_BN = torch.empty(num_sessions, num_blocks, dtype=torch.float64, device=device)
    ids_BN = torch.empty(num_sessions, num_blocks, dtype=torch.int32, device=device)
    resample_kernel[(num_sessions, num_blocks)](
        *rounds,
        num_children_T,
        *keyed,
        ends_B,
        scores_BN,
        ids_BN,
        MAX_CHILDREN=count,
        BLOCK=block,
        num_warps=NUM_WARPS,
    )
    max_blocks = triton.next_power_of_2(num_blocks)
    best_kernel[(num_sessions,)](scores_BN, ids_BN, free_token_B, num_blocks, MAX_BLOCKS=max_blocks)
    return Walk(num_accepted_B, free_token_B, path_BD)


def candidates_of(trees: PackedTrees, draft_probs_TV: Tensor, count: int) -> Candidates:
    """At most `count` children of each row; waits for nothing."""
    device = trees.tokens_T.device
    rows_T = torch.arange(trees.num_rows, device=device)
    firsts_T = trees.row_offsets_B1[trees.session_of_rows()]
    parents_T = torch.where(trees.parents_T >= 0, firsts_T + trees.parents_T, -1)
    is_older_TT = (parents_T[:, None] == parents_T) & (rows_T < rows_T[:, None])
    places_T = is_older_TT.sum(dim=1)
    # Roots are no children: they go to a column that is cut off.
    columns_T = torch.where(parents_T >= 0, places_T.clamp_max(count), count)
    table_TK = torch.full((trees.num_rows, count + 1), -1, dtype=torch.int64, device=device)
    table_TK[parents_T.clamp_min(0), columns_T] = rows_T
    packed_TK = table_TK[:, :count]
    found_TK = packed_TK.clamp_min(0)
    tokens_TK = torch.where(packed_TK >= 0, trees.tokens_T[found_TK], -1)
    was_drawn_TK = draft_probs_TV.gather(1, tokens_TK.clamp_min(0)) > 0
    is_repeated_TK = (tokens_TK[:, :, None] == tokens_TK[:, None]).tril(-1).any(dim=2)
    return Candidates(
        torch.where(packed_TK >= 0, found_TK - firsts_T[:, None], -1),
        torch.where(was_drawn_TK & ~is_repeated_TK, tokens_TK, -1),
    )
