"""The reference walk against a walk in plain Python, on random trees."""

from __future__ import annotations

import random

import pytest
import torch
from polydraft_kernels.packing import PackedTrees
from polydraft_kernels.reference.walk_trees import walk_trees


def walk_one(tokens: list[int], parents: list[int], choices: list[int]) -> tuple[list[int], int]:
    """Path of rows and free token of one session; row 0 is the root."""
    here = 0
    path: list[int] = []
    while True:
        children = [
            node + 1
            for node, (token, parent) in enumerate(zip(tokens, parents, strict=True))
            if parent + 1 == here and token == choices[here]
        ]
        if not children:
            return path, choices[here]
        here = children[0]
        path.append(here)


@pytest.mark.parametrize("seed", range(30))
def test_equals_a_walk_by_hand(seed: int) -> None:
    chance = random.Random(seed)
    drafts: list[tuple[list[int], list[int]]] = []
    for _ in range(chance.randint(0, 6)):
        num_nodes = chance.choice([0, 1, 2, 5, 9])
        # Two tokens only, so that paths are long and siblings are sometimes equal.
        tokens = [chance.randint(0, 1) for _ in range(num_nodes)]
        drafts.append((tokens, [chance.randint(-1, node - 1) for node in range(num_nodes)]))
    trees = PackedTrees.pack([7] * len(drafts), [tokens for tokens, _ in drafts], [parents for _, parents in drafts])
    choices = [chance.randint(0, 1) for _ in range(trees.num_rows)]

    walk = walk_trees(trees, torch.tensor(choices, dtype=torch.int64))

    assert walk.path_BD.shape == (len(drafts), max((len(tokens) for tokens, _ in drafts), default=0))
    for session, (tokens, parents) in enumerate(drafts):
        first = int(trees.row_offsets_B1[session])
        path, free_token = walk_one(tokens, parents, choices[first : first + len(tokens) + 1])
        assert int(walk.num_accepted_B[session]) == len(path)
        assert int(walk.free_token_B[session]) == free_token
        padding = [-1] * (walk.path_BD.shape[1] - len(path))
        assert walk.path_BD[session].tolist() == path + padding


def test_packing_puts_a_root_before_each_draft() -> None:
    trees = PackedTrees.pack([50, 60], [[1, 2, 3], []], [[-1, 0, 0], []])

    assert trees.tokens_T.tolist() == [50, 1, 2, 3, 60]
    assert trees.parents_T.tolist() == [-1, 0, 1, 1, -1]
    assert trees.row_offsets_B1.tolist() == [0, 4, 5]
    assert trees.session_of_rows().tolist() == [0, 0, 0, 0, 1]
    assert trees.max_draft_len == 3
