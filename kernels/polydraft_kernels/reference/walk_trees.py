"""From the target's choice at every row to the accepted path of every session. B sessions, T rows, D path length."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from polydraft_kernels.packing import PackedTrees, Walk


def walk_trees(trees: PackedTrees, choices_T: Tensor) -> Walk:
    """Descend from each root to the child that carries the choice, as far as there is one.

    With one choice a row this is sample-and-match: the accepted tokens and the free one are the target's own choices
    along the path, whatever was drafted.
    """
    # On the host: a few steps of Python a session cost less than a dozen tensor calls for each depth.
    tokens, parents, choices = trees.tokens_T.tolist(), trees.parents_T.tolist(), choices_T.tolist()
    paths: list[list[int]] = []
    free_tokens: list[int] = []
    for first, end in pairwise(trees.row_offsets_B1.tolist()):
        child_of: dict[tuple[int, int], int] = {}
        for row in range(1, end - first):
            child_of.setdefault((parents[first + row], tokens[first + row]), row)
        path: list[int] = []
        here = 0
        while (child := child_of.get((here, choices[first + here]))) is not None:
            path.append(child)
            here = child
        paths.append(path)
        free_tokens.append(choices[first + here])
    padded = [path + [-1] * (trees.max_draft_len - len(path)) for path in paths]
    return Walk(
        num_accepted_B=torch.tensor([len(path) for path in paths], dtype=torch.int64, device=choices_T.device),
        free_token_B=torch.tensor(free_tokens, dtype=torch.int64, device=choices_T.device),
        path_BD=torch.tensor(padded, dtype=torch.int64, device=choices_T.device).view(len(paths), trees.max_draft_len),
    )
