"""Which nodes each shape runs and proposes, on models whose next token depends on the last two alone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batch import paths_from_root
from engine.drafters.growing_tree import NOT_RUN, ROOT, GrowingTree
from engine.drafters.shapes import Bounds, Candidates, Confidence, Graph, LikeliestPaths, Shape, unrolled
from engine.tree import TokenTree

Model = Callable[[tuple[int, ...]], list[tuple[int, float]]]
"""Tokens so far -> tokens that may follow and their probabilities, likeliest first."""
TEXT = (5, 6)
"""What is committed."""
NO_ENDS: frozenset[int] = frozenset()


def trigram_model(seed: int, vocab_size: int = 4) -> Model:
    def model(text: tuple[int, ...]) -> list[tuple[int, float]]:
        rng = random.Random(hash((seed, *text[-2:])))
        weights = [rng.random() ** 3 + 1e-3 for _ in range(vocab_size)]
        total = sum(weights)
        return sorted(((token, weight / total) for token, weight in enumerate(weights)), key=lambda pair: -pair[1])

    return model


def grow(shape: Shape, model: Model, bounds: Bounds) -> tuple[GrowingTree, TokenTree, int]:
    """The tree, its block, and how many nodes were run."""
    tree = GrowingTree(root_was_run=True)
    _add(shape, model, tree, ROOT)
    while nodes := shape.next_nodes(tree, bounds):
        tree.run(nodes)
        for node in nodes:
            _add(shape, model, tree, node)
    return tree, tree.token_tree(shape.block(tree, bounds), range(100)), tree.num_places


def _add(shape: Shape, model: Model, tree: GrowingTree, node: int) -> None:
    likely = model((*TEXT, *_rows_to(tree, node)))[: shape.max_children()]
    depth = 0 if node == ROOT else tree.nodes[node].depth
    count = shape.num_children(depth, [prob for _, prob in likely])
    tree.add_children(node, [token for token, _ in likely[:count]], [prob for _, prob in likely[:count]])


def _rows_to(tree: GrowingTree, node: int) -> list[int]:
    rows: list[int] = []
    while node != ROOT:
        rows.append(tree.nodes[node].row)
        node = tree.nodes[node].parent
    return rows[::-1]


def paths_of(tree: TokenTree) -> list[tuple[int, ...]]:
    paths: list[tuple[int, ...]] = []
    for token, parent in zip(tree.token_ids, tree.parents, strict=True):
        paths.append((*(paths[parent] if parent >= 0 else ()), token))
    return paths


def test_candidates_are_so_many_for_each_node_of_a_level() -> None:
    _, tree, num_run = grow(Candidates((4, 2, 2)), trigram_model(1), Bounds(28, 100, NO_ENDS))

    assert [tree.depths().count(depth) for depth in (1, 2, 3)] == [4, 8, 16]
    assert num_run == 4 + 8
    # What attention reads: the ancestors of each node, by going up from it.
    for node, path in enumerate(paths_from_root(tree).tolist()):
        above = [node]
        while tree.parents[above[0]] >= 0:
            above.insert(0, tree.parents[above[0]])
        assert [ancestor for ancestor in path if ancestor >= 0] == above


@pytest.mark.parametrize(
    ("max_nodes", "widths"),
    [
        (28, (4, 2, 2)),
        (27, (4, 2, 1)),
        (20, (4, 2, 1)),
        (19, (4, 1, 1)),
        (12, (4, 1, 1)),
        (11, (3, 1, 1)),
        (3, (1, 1, 1)),
        (1, (1,)),
        (0, ()),
    ],
)
def test_a_smaller_block_of_candidates_is_narrower_before_it_is_shorter(
    max_nodes: int, widths: tuple[int, ...]
) -> None:
    assert Candidates((4, 2, 2)).fitting(max_nodes) == widths


@pytest.mark.parametrize(("likeliest", "count"), [(0.2, 7), (0.3, 7), (0.5, 5), (0.7, 3), (0.9, 1)])
def test_runners_up_are_more_where_the_drafter_is_unsure(likeliest: float, count: int) -> None:
    assert Confidence().num_children(0, [likeliest, 0.1]) == count


def test_nothing_follows_a_runner_up() -> None:
    tree, block, _ = grow(Confidence(), trigram_model(3), Bounds(12, 100, NO_ENDS))

    assert len(block) == 12
    assert len({parent for parent in block.parents}) > 2
    assert all(tree.nodes[node].rank == 0 for node in range(len(tree.nodes)) if tree.nodes[node].place != NOT_RUN)


@given(seed=st.integers(0, 10_000), max_nodes=st.integers(1, 20), max_depth=st.integers(1, 6))
def test_a_graph_stands_for_the_tree_that_is_drafted_without_it(seed: int, max_nodes: int, max_depth: int) -> None:
    """Of a model that knows no more than the tokens that must repeat nothing is lost: only work."""
    bounds, model = Bounds(max_nodes, max_depth, NO_ENDS), trigram_model(seed)

    _, whole, num_whole = grow(LikeliestPaths(branching=3), model, bounds)
    _, block, num_run = grow(Graph(branching=3, sibling_threshold=0.0), model, bounds)

    assert set(paths_of(block)) == set(paths_of(whole))
    assert num_run <= num_whole


def test_a_graph_runs_fewer_nodes_where_text_repeats() -> None:
    runs = [
        [grow(shape, trigram_model(seed, 2), Bounds(24, 100, NO_ENDS))[2] for seed in range(20)]
        for shape in (LikeliestPaths(branching=2), Graph(branching=2, sibling_threshold=0.0))
    ]

    assert sum(runs[1]) < 0.8 * sum(runs[0])


def graph_of(edges: dict[int, list[tuple[int, float]]], run: list[int]) -> GrowingTree:
    """A tree with these children (row, probability) behind each node, by index."""
    tree = GrowingTree(root_was_run=True)
    for parent, children in edges.items():
        tree.add_children(parent, [row for row, _ in children], [prob for _, prob in children])
    tree.run(run)
    return tree


def test_unrolled_paths_of_a_graph_by_hand() -> None:
    # 0: "a", 1: "b" behind the root; 2: "c" behind "a", 3: "c" behind "b", whose twin is 2; 4: "d" behind 2.
    tree = graph_of({ROOT: [(10, 0.6), (11, 0.4)], 0: [(12, 0.5)], 1: [(12, 1.0)], 2: [(13, 0.5)]}, run=[0, 1, 2])

    block = tree.token_tree(
        [(node.index, node.parent) for node in unrolled(tree, {3: 2}, Bounds(99, 99, NO_ENDS))], range(99)
    )

    assert sorted(paths_of(block)) == [(10,), (10, 12), (10, 12, 13), (11,), (11, 12), (11, 12, 13)]


def test_no_path_goes_round() -> None:
    """Two nodes that each end like a node above the other: one of them is run in its own place."""
    # 0: 1, 1: 2 behind the root; 2: 2 behind 0, like node 1; 3: 1 behind 1, like node 0.
    tree = graph_of({ROOT: [(1, 0.5), (2, 0.5)], 0: [(2, 1.0)], 1: [(1, 1.0)]}, run=[0, 1])

    twins = Graph(num_repeated=1).twins(tree)

    assert twins == {2: 1}
    assert max(node.depth for node in unrolled(tree, twins, Bounds(99, 99, NO_ENDS))) == 3


def test_shapes_give_parents_before_children_within_their_bounds() -> None:
    shapes: tuple[Shape, ...] = (LikeliestPaths(), Candidates(), Confidence(), Graph())
    for shape, max_nodes, max_depth in itertools.product(shapes, (1, 5, 16), (1, 3)):
        _, tree, _ = grow(shape, trigram_model(7), Bounds(max_nodes, max_depth, NO_ENDS))
        assert tree.problem(100) is None
        assert 0 < len(tree) <= max_nodes
        assert max(tree.depths()) <= max_depth
