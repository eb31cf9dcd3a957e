"""Which trees a language model drafts. The model says how likely each child of a node is; a shape says which nodes are
run, how many children they get, and which of them make the block.

| shape             | grows                                                                                    |
| likeliest paths   | the likeliest nodes first (EAGLE-2, 2406.16858)                                          |
| candidates        | so many children for each node of a level (Yang et al. 2401.06706)                       |
| confidence        | a chain, and runners-up beside each of its nodes, more where it is unsure (2402.02082)   |
| graph             | likeliest paths, but what follows an n-gram is drafted once (2407.16207)                 |

Whatever is proposed, the text is the target's own under coupled verification: shapes may look at anything.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, count
from operator import mul
from typing import ClassVar, Protocol

from engine.drafters.base import DraftLaw
from engine.drafters.config import DrafterConfig
from engine.drafters.growing_tree import NOT_RUN, ROOT, GrowingTree

PASS_WIDTH = 4
"""Most nodes of a session that are run in one pass, but where a whole level is."""

Block = list[tuple[int, int]]
"""Nodes of a tree in the order in which they are proposed, each with the place of its parent among them, or ROOT."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What holds for one block, whatever its shape."""

    max_nodes: int
    max_depth: int
    ends: frozenset[int]
    """Rows behind which nothing follows."""


class Shape(Protocol):
    """Grows one block. Stateless: the tree holds all that is known of a session."""

    minds_order: ClassVar[bool]
    """Whether the block depends on the order in which nodes were run."""

    def num_children(self, depth: int, probs: Sequence[float]) -> int:
        """Of a node at that depth (the root's is 0) whose likeliest continuations have these probabilities."""

    def max_children(self) -> int:
        """Of any node."""

    def next_nodes(self, tree: GrowingTree, bounds: Bounds) -> list[int]:
        """The nodes to run in the next pass; none: the block is complete. The root was run."""

    def block(self, tree: GrowingTree, bounds: Bounds) -> Block:
        """At most `max_nodes` nodes; those that are likelier accepted first, but parents before their children."""


@dataclass(frozen=True, slots=True)
class LikeliestPaths:
    """The n nodes with the highest path probability: the block of n with the most accepted tokens to be expected."""

    minds_order: ClassVar[bool] = False
    branching: int = 4
    min_confidence: float = 0.0
    """No node is run whose path is less probable."""

    def num_children(self, depth: int, probs: Sequence[float]) -> int:
        return self.branching

    def max_children(self) -> int:
        return self.branching

    def next_nodes(self, tree: GrowingTree, bounds: Bounds) -> list[int]:
        # A node no likelier than the last of the block cannot have children in it.
        floor = max(tree.prob_to_beat(bounds.max_nodes), self.min_confidence)
        return tree.frontier(PASS_WIDTH, floor, bounds.max_depth, bounds.ends)

    def block(self, tree: GrowingTree, bounds: Bounds) -> Block:
        return _in_places(tree, tree.best(bounds.max_nodes))


CHAIN = LikeliestPaths(branching=1)


@dataclass(frozen=True, slots=True)
class Candidates:
    """A tree with `widths[d]` children for each node at depth d, level by level.

    A smaller block has the narrower tree: the last widths that make it too large become 1, then go.
    """

    minds_order: ClassVar[bool] = False
    widths: tuple[int, ...] = (4, 2, 2)

    def num_children(self, depth: int, probs: Sequence[float]) -> int:
        return self.widths[depth] if depth < len(self.widths) else 0

    def max_children(self) -> int:
        return max(self.widths)

    def next_nodes(self, tree: GrowingTree, bounds: Bounds) -> list[int]:
        depth = len(self.fitting(bounds.max_nodes))
        within = min(depth, bounds.max_depth)
        return tree.frontier(len(tree.nodes), 0.0, within, bounds.ends)

    def block(self, tree: GrowingTree, bounds: Bounds) -> Block:
        children = tree.children()
        chosen: list[int] = []
        level = [ROOT]
        for width in self.fitting(bounds.max_nodes):
            level = [child for parent in level for child in children[parent][:width]]
            chosen += level
        return _in_places(tree, chosen)

    def fitting(self, max_nodes: int) -> tuple[int, ...]:
        """The widths of a block of at most so many nodes."""
        widths = list(self.widths)
        while widths and sum(accumulate(widths, mul)) > max_nodes:
            place = next((place for place in reversed(range(len(widths))) if widths[place] > 1), None)
            if place is None:
                widths.pop()
            else:
                widths[place] -= 1
        return tuple(widths)


@dataclass(frozen=True, slots=True)
class Confidence:
    """A chain of the likeliest tokens, each with runners-up beside it that nothing follows (GliDe with CaPE)."""

    minds_order: ClassVar[bool] = False
    table: tuple[tuple[float, int], ...] = ((0.3, 7), (0.6, 5), (0.8, 3), (1.0, 1))
    """(probability of the likeliest, children): the first line that it does not exceed."""
    min_confidence: float = 0.0

    def num_children(self, depth: int, probs: Sequence[float]) -> int:
        return next((count for most, count in self.table if probs[0] <= most), 1)

    def max_children(self) -> int:
        return max(count for _, count in self.table)

    def next_nodes(self, tree: GrowingTree, bounds: Bounds) -> list[int]:
        tip = ROOT
        for index, node in enumerate(tree.nodes):
            if node.rank == 0 and node.parent == tip:
                tip = index
        floor = max(tree.prob_to_beat(bounds.max_nodes), self.min_confidence)
        return [tip] if tip in tree.frontier(len(tree.nodes), floor, bounds.max_depth, bounds.ends) else []

    def block(self, tree: GrowingTree, bounds: Bounds) -> Block:
        return _in_places(tree, tree.best(bounds.max_nodes))


@dataclass(frozen=True, slots=True)
class Graph:
    """Likeliest paths in which a node whose last tokens stand elsewhere in the tree is not run: what follows there is
    taken to follow here too. The graph is unrolled into a tree for the target, since its states depend on the path.
    """

    minds_order: ClassVar[bool] = True
    branching: int = 4
    min_confidence: float = 0.0
    sibling_threshold: float = 0.1
    """Siblings less likely than this share of the likeliest are left out."""
    num_repeated: int = 2
    """Tokens, the node's own the last of them, that must be the same."""

    def num_children(self, depth: int, probs: Sequence[float]) -> int:
        least = self.sibling_threshold * probs[0]
        return min(self.branching, sum(prob >= least for prob in probs))

    def max_children(self) -> int:
        return self.branching

    def next_nodes(self, tree: GrowingTree, bounds: Bounds) -> list[int]:
        twins = self.twins(tree)
        found = unrolled(tree, twins, bounds)
        floor = max(found[-1].path_prob if len(found) == bounds.max_nodes else 0.0, self.min_confidence)
        wanted = [
            node.index
            for node in found
            if tree.nodes[node.index].place == NOT_RUN
            and node.index not in twins
            and node.path_prob > floor
            and node.depth < bounds.max_depth
            and tree.nodes[node.index].row not in bounds.ends
        ]
        return list(dict.fromkeys(wanted))[:PASS_WIDTH]

    def block(self, tree: GrowingTree, bounds: Bounds) -> Block:
        return [(node.index, node.parent) for node in unrolled(tree, self.twins(tree), bounds)]

    def twins(self, tree: GrowingTree) -> dict[int, int]:
        """For nodes that were not run, the first one that was and ends alike, as long as no path can go round."""
        first: dict[tuple[int, ...], int] = {}
        for index, node in enumerate(tree.nodes):
            if node.place != NOT_RUN:
                first.setdefault(self._last_rows(tree, index), index)
        children = tree.children()
        twins: dict[int, int] = {}
        for index, node in enumerate(tree.nodes):
            twin = first.get(self._last_rows(tree, index)) if node.place == NOT_RUN else None
            if twin is not None and not _leads_to(twin, index, children, twins):
                twins[index] = twin
        return twins

    def _last_rows(self, tree: GrowingTree, index: int) -> tuple[int, ...]:
        """Fewer at the top of the tree, where the committed tokens are no part of it."""
        rows: list[int] = []
        while index != ROOT and len(rows) < self.num_repeated:
            rows.append(tree.nodes[index].row)
            index = tree.nodes[index].parent
        return tuple(rows)


@dataclass(frozen=True, slots=True)
class UnrolledNode:
    """A node of the tree that a graph stands for; one of the graph may come several times."""

    index: int
    parent: int
    """Its place among the unrolled nodes, or ROOT."""
    depth: int
    path_prob: float


def unrolled(tree: GrowingTree, twins: Mapping[int, int], bounds: Bounds) -> list[UnrolledNode]:
    """The likeliest nodes when each node with a twin has the twin's children."""
    children = tree.children()
    found: list[UnrolledNode] = []
    order = count()
    waiting: list[tuple[float, int, UnrolledNode]] = []

    def add_children(of: int, parent: int, depth: int, path_prob: float) -> None:
        own = 1.0 if of == ROOT else tree.nodes[of].path_prob
        for child in children[of]:
            prob = path_prob * tree.nodes[child].path_prob / own
            heapq.heappush(waiting, (-prob, next(order), UnrolledNode(child, parent, depth, prob)))

    add_children(ROOT, ROOT, 1, 1.0)
    while waiting and len(found) < bounds.max_nodes:
        node = heapq.heappop(waiting)[2]
        found.append(node)
        if node.depth < bounds.max_depth:
            add_children(twins.get(node.index, node.index), len(found) - 1, node.depth + 1, node.path_prob)
    return found


def _leads_to(start: int, end: int, children: defaultdict[int, list[int]], twins: Mapping[int, int]) -> bool:
    """Whether a path of the graph goes from one node to another."""
    waiting, seen = [start], {start}
    while waiting:
        node = waiting.pop()
        if node == end:
            return True
        new = {*children[node], twins.get(node, node)} - seen
        seen |= new
        waiting += new
    return False


def _in_places(tree: GrowingTree, indices: Sequence[int]) -> Block:
    """Nodes of a tree as they are; their parents are among them."""
    place = {index: number for number, index in enumerate(indices)} | {ROOT: ROOT}
    return [(index, place[tree.nodes[index].parent]) for index in indices]


def drawn_shape(method: str, shape: Shape) -> tuple[DraftLaw, Shape]:
    """What a method drafts for verifiers that need the law of what was drawn. ValueError if that cannot be told."""
    match shape:
        case LikeliestPaths():
            return DraftLaw.CHAIN_EXACT, replace(shape, branching=1)
        case Candidates():
            return DraftLaw.NO_REPLACEMENT, shape
    raise ValueError(
        f"drafting method {method!r} chooses nodes by what was drawn there, so that no law of them is at hand; use "
        "method 'lm' or 'multi_candidate', or the verifier 'coupled'"
    )


SHAPES: dict[str, Callable[[DrafterConfig], Shape]] = {
    "lm": lambda config: LikeliestPaths(config.branching, config.min_confidence),
    "multi_candidate": lambda config: Candidates(config.widths),
    "cape": lambda config: Confidence(min_confidence=config.min_confidence),
    "graph": lambda config: Graph(config.branching, config.min_confidence),
}
"""By the name of the method that drafts so."""
