"""Draft tokens as a tree; a chain is a tree with one branch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenTree:
    """Draft tokens in an order where parents come first.

    `parents[i]` is the index of node i's parent, -1 if it follows the last committed token.
    `ranks[i]` is its place among its siblings in the order drawn.
    """

    token_ids: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    ranks: tuple[int, ...] = ()
    laws: Tensor | None = field(default=None, compare=False, repr=False)
    """float32 [1 + nodes, V]: row 0 is the law that the first nodes were drawn from, row i + 1 that of node i's
    children, for verifiers that need it; None: they were chosen without chance, or nobody knows."""

    @classmethod
    def chain(cls, token_ids: Sequence[int]) -> TokenTree:
        """The tree with one branch."""
        num_nodes = len(token_ids)
        return cls(tuple(token_ids), tuple(range(-1, num_nodes - 1)), (0,) * num_nodes)

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def is_chain(self) -> bool:
        """Whether no node has two children."""
        return self.parents == tuple(range(-1, len(self.parents) - 1))

    def depths(self) -> list[int]:
        """Depth of each node; a node that follows the last committed token has depth 1."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent < 0 else depths[parent] + 1)
        return depths

    def likeliest_path(self) -> list[int]:
        """The first of the root's children, the first of its children, and so on to a leaf."""
        first_child: dict[int, int] = {}
        for node, parent in enumerate(self.parents):
            first_child.setdefault(parent, node)
        path: list[int] = []
        node = -1
        while node in first_child:
            node = first_child[node]
            path.append(node)
        return path

    def tokens_along(self, path: Sequence[int]) -> tuple[int, ...]:
        return tuple(self.token_ids[node] for node in path)

    def follow(self, token_ids: Sequence[int]) -> list[int]:
        """The nodes along these tokens, as far as there are such."""
        child_of = {
            (parent, token): node for node, (parent, token) in enumerate(zip(self.parents, self.token_ids, strict=True))
        }
        path: list[int] = []
        for token in token_ids:
            child = child_of.get((path[-1] if path else -1, token))
            if child is None:
                break
            path.append(child)
        return path

    def grafted(self, path: Sequence[int], tree: TokenTree) -> TokenTree:
        """With another tree behind the end of a path that ends in a leaf; it has no laws."""
        if not tree:
            return self
        stock = path[-1] if path else -1
        num_nodes = len(self)
        return TokenTree(
            self.token_ids + tree.token_ids,
            self.parents + tuple(stock if parent < 0 else num_nodes + parent for parent in tree.parents),
            self.ranks + tree.ranks,
        )

    def goes_on_behind(self, path: Sequence[int]) -> bool:
        """Whether the last node of a path from the root has children; of an empty path: whether there is any node."""
        return (path[-1] if path else -1) in self.parents

    def problem(self, vocab_size: int) -> str | None:
        """What is wrong with a tree that came from elsewhere, or None."""
        if not len(self.token_ids) == len(self.parents) == len(self.ranks):
            return f"{len(self.token_ids)} tokens, {len(self.parents)} parents, {len(self.ranks)} ranks"
        for node, (token, parent) in enumerate(zip(self.token_ids, self.parents, strict=True)):
            if not 0 <= token < vocab_size:
                return f"node {node}: token {token} is outside the vocabulary of {vocab_size}"
            if not -1 <= parent < node:
                return f"node {node}: parent {parent} does not come before it"
        return None

    def without_duplicate_siblings(self) -> TokenTree:
        """Siblings with the same token become one node; their children join. Drawn ones are what they are."""
        if self.laws is not None:
            return self
        seen: dict[tuple[int, int], int] = {}
        merged: list[int] = []
        token_ids: list[int] = []
        parents: list[int] = []
        ranks: list[int] = []
        for token, parent, rank in zip(self.token_ids, self.parents, self.ranks, strict=True):
            key = (merged[parent] if parent >= 0 else -1, token)
            if key not in seen:
                seen[key] = len(token_ids)
                token_ids.append(token)
                parents.append(key[0])
                ranks.append(rank)
            merged.append(seen[key])
        return TokenTree(tuple(token_ids), tuple(parents), tuple(ranks))

    def truncated(self, max_nodes: int, max_depth: int) -> TokenTree:
        """The first `max_nodes` nodes that are at most `max_depth` deep."""
        depths = self.depths()
        renamed: dict[int, int] = {-1: -1}
        for node, parent in enumerate(self.parents):
            if depths[node] <= max_depth and parent in renamed and len(renamed) <= max_nodes:
                renamed[node] = len(renamed) - 1
        if len(renamed) == len(self) + 1:
            return self
        kept = [*renamed][1:]
        return TokenTree(
            tuple(self.token_ids[node] for node in kept),
            tuple(renamed[self.parents[node]] for node in kept),
            tuple(self.ranks[node] for node in kept),
            None if self.laws is None else self.laws[[0, *(node + 1 for node in kept)]],
        )
