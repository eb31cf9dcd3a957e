"""From the target's choice at every row to the accepted path of every session. B sessions, D path length.

    here = root;  repeat D times: here = the lowest row whose parent is here and whose token is choice[here], if any

Grid: one program a session, which holds the session's parents and tokens in registers. Integers only.
"""
# A kernel's arguments have types only when it is compiled for them.
# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from polydraft_kernels.packing import PackedTrees, Walk


@triton.jit
def walk_kernel(
    tokens, parents, row_offsets, choices, num_accepted, free_tokens, paths, max_draft_len, MAX_ROWS: tl.constexpr
):
    """Grid [B]. MAX_ROWS is a power of two, at least the rows of the largest session."""
    session = tl.program_id(0).to(tl.int64)
    first_row = tl.load(row_offsets + session)
    num_rows = tl.load(row_offsets + session + 1) - first_row
    rows = tl.arange(0, MAX_ROWS)
    token = tl.load(tokens + first_row + rows, mask=rows < num_rows, other=-1)
    parent = tl.load(parents + first_row + rows, mask=rows < num_rows, other=-1)
    here = 0
    accepted = 0
    for depth in range(0, max_draft_len):
        choice = tl.load(choices + first_row + here)
        child = tl.min(tl.where((parent == here) & (token == choice), rows, MAX_ROWS), 0)
        is_found = child < MAX_ROWS
        here = tl.where(is_found, child, here)
        accepted += is_found.to(tl.int32)
        tl.store(paths + session * max_draft_len + depth, tl.where(is_found, child, -1))
    tl.store(num_accepted + session, accepted)
    tl.store(free_tokens + session, tl.load(choices + first_row + here))


def walk_trees(trees: PackedTrees, choices_T: Tensor) -> Walk:
    """Descend from each root to the child that carries the choice, as far as there is one."""
    num_sessions, max_draft_len = trees.num_sessions, trees.max_draft_len
    walk = Walk(
        num_accepted_B=torch.empty(num_sessions, dtype=torch.int64, device=choices_T.device),
        free_token_B=torch.empty(num_sessions, dtype=torch.int64, device=choices_T.device),
        path_BD=torch.empty((num_sessions, max_draft_len), dtype=torch.int64, device=choices_T.device),
    )
    if num_sessions > 0:
        walk_kernel[(num_sessions,)](
            trees.tokens_T,
            trees.parents_T,
            trees.row_offsets_B1,
            choices_T,
            walk.num_accepted_B,
            walk.free_token_B,
            walk.path_BD,
            max_draft_len,
            MAX_ROWS=triton.next_power_of_2(max_draft_len + 1),
        )
    return walk
