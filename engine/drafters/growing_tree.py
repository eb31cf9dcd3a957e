"""A draft tree that grows pass by pass, the likeliest nodes first.

The drafter runs nodes; a node that was run gets children with the probabilities that the drafter gives them. A node's
path probability is the product of its own and its ancestors': the drafter's guess of the chance that the target's text
goes this way. The n nodes with the highest make the block of n with the most tokens accepted to be expected (EAGLE-2,
2406.16858, ranks its nodes alike), and none of them lacks its parent.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.tree import TokenTree

ROOT = -1
"""Stands for the last committed token."""
NOT_RUN = -1
NO_NODE = -2


@dataclass(slots=True)
class Node:
    """One draft token; `row` is its row in the drafter's vocabulary."""

    row: int
    parent: int
    depth: int
    rank: int
    """Among its siblings, the likeliest first."""
    path_prob: float
    place: int = NOT_RUN
    """Where its keys and values are in the session's slot, counted from the first node's."""


@dataclass(slots=True)
class GrowingTree:
    """Nodes in the order in which they were added."""

    nodes: list[Node] = field(default_factory=list)
    root_was_run: bool = False
    num_places: int = 0
    """Nodes that were run."""

    def add_children(self, parent: int, rows: Sequence[int], probs: Sequence[float]) -> None:
        """The likeliest tokens behind a node that was run, best first; those without a chance, or NaN, are left out."""
        depth, path_prob = (1, 1.0) if parent == ROOT else (self.nodes[parent].depth + 1, self.nodes[parent].path_prob)
        for rank, (row, prob) in enumerate(zip(rows, probs, strict=True)):
            if prob > 0.0:
                self.nodes.append(Node(row, parent, depth, rank, path_prob * prob))

    def frontier(self, width: int, floor: float, max_depth: int, ends: frozenset[int]) -> list[int]:
        """At most `width` nodes to run next: the likeliest of those that were not, if likelier than `floor`.

        Nodes at `max_depth` and those whose row is in `ends` have no children.
        """
        candidates = [
            (-node.path_prob, index)
            for index, node in enumerate(self.nodes)
            if node.place == NOT_RUN and node.path_prob > floor and node.depth < max_depth and node.row not in ends
        ]
        return [index for _, index in heapq.nsmallest(width, candidates)]

    def run(self, indices: Sequence[int]) -> None:
        """Note that nodes were run, at consecutive places."""
        for index in indices:
            self.nodes[index].place = self.num_places
            self.num_places += 1

    def ancestors(self, index: int) -> list[int]:
        """Places of a node's ancestors and of itself, in any order."""
        places: list[int] = []
        while index != ROOT:
            places.append(self.nodes[index].place)
            index = self.nodes[index].parent
        return places

    def best(self, max_nodes: int) -> list[int]:
        """The likeliest nodes, parents first."""
        return heapq.nsmallest(max_nodes, range(len(self.nodes)), key=lambda i: (-self.nodes[i].path_prob, i))

    def prob_to_beat(self, max_nodes: int) -> float:
        """The path probability of the `max_nodes`-th likeliest node; 0 if there are fewer."""
        best = self.best(max_nodes)
        return self.nodes[best[-1]].path_prob if len(best) == max_nodes else 0.0

    def children(self) -> defaultdict[int, list[int]]:
        """Of each node that has any, and of ROOT, the likeliest first."""
        children: defaultdict[int, list[int]] = defaultdict(list)
        for index, node in enumerate(self.nodes):
            children[node.parent].append(index)
        return children

    def token_tree(self, block: Sequence[tuple[int, int]], token_ids: Sequence[int]) -> TokenTree:
        """Nodes, each with the place of its parent among them, as a block; `token_ids` are the target's ids of rows."""
        nodes = [self.nodes[index] for index, _ in block]
        return TokenTree(
            tuple(token_ids[node.row] for node in nodes),
            tuple(parent for _, parent in block),
            tuple(node.rank for node in nodes),
        )

    def below(self, root: int) -> tuple[GrowingTree, list[int]]:
        """The tree behind a node that was run, and the places where its nodes that were run lie now, in new order."""
        assert self.nodes[root].place != NOT_RUN
        number = {root: ROOT}
        tree = GrowingTree(root_was_run=True)
        places: list[int] = []
        top = self.nodes[root]
        for index, node in enumerate(self.nodes):
            if node.parent in number:
                number[index] = len(tree.nodes)
                path_prob = node.path_prob / top.path_prob
                moved = Node(node.row, number[node.parent], node.depth - top.depth, node.rank, path_prob)
                tree.nodes.append(moved)
                if node.place != NOT_RUN:
                    moved.place = len(places)
                    places.append(node.place)
        tree.num_places = len(places)
        return tree, places

    def child(self, parent: int, row: int) -> int:
        """The child of a node, or of ROOT, with that row; or NO_NODE."""
        return next((i for i, node in enumerate(self.nodes) if node.parent == parent and node.row == row), NO_NODE)

    def follow(self, rows: Sequence[int]) -> list[int]:
        """The nodes along committed tokens, as far as the tree foresaw them."""
        path: list[int] = []
        for row in rows:
            found = self.child(path[-1] if path else ROOT, row)
            if found == NO_NODE:
                break
            path.append(found)
        return path
