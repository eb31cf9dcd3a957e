"""Trees as they come from drafters: checked, without twins, cut to size."""

from __future__ import annotations

import pytest

from engine.batch import paths_from_root
from engine.hashing import EMPTY_HASH, extend_hash
from engine.tree import TokenTree

#   5   6        twins: 5 twice at the top, each with a child
#  / \
# 7   8
TREE = TokenTree((5, 6, 7, 8), (-1, -1, 0, 0), (0, 1, 0, 1))


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (TokenTree((100,), (-1,), (0,)), "token 100 is outside"),
        (TokenTree((5, 6), (1, -1), (0, 0)), "parent 1 does not come before"),
        (TokenTree((5,), (-2,), (0,)), "parent -2"),
        (TokenTree((5, 6), (-1,), (0,)), "2 tokens, 1 parents"),
    ],
)
def test_malformed_trees_are_described(tree: TokenTree, words: str) -> None:
    assert words in str(tree.problem(vocab_size=100))


def test_a_sound_tree_has_no_problem() -> None:
    assert TREE.problem(vocab_size=9) is None


def test_twins_become_one_node_with_the_children_of_both() -> None:
    tree = TokenTree((5, 5, 7, 8, 7), (-1, -1, 0, 1, 1), (0, 1, 0, 0, 1))

    merged = tree.without_duplicate_siblings()

    assert (merged.token_ids, merged.parents) == ((5, 7, 8), (-1, 0, 0))


def test_cutting_keeps_parents_of_what_is_kept() -> None:
    assert TREE.truncated(max_nodes=3, max_depth=9).token_ids == (5, 6, 7)
    assert TREE.truncated(max_nodes=9, max_depth=1).token_ids == (5, 6)
    assert TREE.truncated(max_nodes=9, max_depth=0).token_ids == ()


def test_paths_name_ancestors_in_depth_order() -> None:
    assert paths_from_root(TREE).tolist() == [[0, -1], [1, -1], [0, 2], [0, 3]]


def test_hash_of_a_sequence_does_not_depend_on_the_steps_it_grew_in() -> None:
    whole = extend_hash(EMPTY_HASH, [1, 2, 3])

    assert extend_hash(extend_hash(EMPTY_HASH, [1]), [2, 3]) == whole
    assert len({extend_hash(EMPTY_HASH, ids) for ids in ([1, 2, 3], [3, 2, 1], [1, 2], [0, 1, 2, 3])}) == 4
