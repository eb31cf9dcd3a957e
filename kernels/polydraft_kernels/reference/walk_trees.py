"""From the target's choice at every row to the accepted path of every session. B sessions, T rows, D path length."""

from __future__ import annotations

import torch
from torch import Tensor

from polydraft_kernels.packing import PackedTrees, Walk


def walk_trees(trees: PackedTrees, choices_T: Tensor) -> Walk:
    """Descend from each root to the child that carries the choice, as far as there is one.

    With one choice a row this is sample-and-match: the accepted tokens and the free one are the target's own choices
    along the path, whatever was drafted.
    """
    sessions_T = trees.session_of_rows()
    first_rows_B = trees.row_offsets_B1[:-1]
    chosen_children_T = _chosen_children(trees, choices_T, first_rows_B[sessions_T])
    here_B = first_rows_B.clone()
    num_accepted_B = torch.zeros_like(here_B)
    path_BD = torch.full((trees.num_sessions, trees.max_draft_len), -1, dtype=torch.int64, device=here_B.device)
    for depth in range(trees.max_draft_len):
        child_B = chosen_children_T[here_B]
        found_B = child_B < trees.num_rows
        here_B = torch.where(found_B, child_B, here_B)
        path_BD[:, depth] = torch.where(found_B, child_B - first_rows_B, -1)
        num_accepted_B += found_B
    return Walk(num_accepted_B, choices_T[here_B], path_BD)


def _chosen_children(trees: PackedTrees, choices_T: Tensor, first_row_T: Tensor) -> Tensor:
    """The child that carries the row's choice, int64 [T]; the number of rows stands for none."""
    num_rows = trees.num_rows
    rows_T = torch.arange(num_rows, device=choices_T.device)
    is_draft_T = trees.parents_T >= 0
    parent_T = torch.where(is_draft_T, trees.parents_T + first_row_T, rows_T)
    is_chosen_T = is_draft_T & (trees.tokens_T == choices_T[parent_T])
    children_T = torch.full_like(rows_T, num_rows)
    return children_T.scatter_reduce_(0, parent_T, torch.where(is_chosen_T, rows_T, num_rows), reduce="amin")
