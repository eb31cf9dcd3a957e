"""The likeliest tree within a budget, one node at a time: the likeliest of all that may come next."""

from __future__ import annotations

import heapq

from engine.drafters.text.sources import Place, Sources
from engine.tree import TokenTree

_LEAST = 0.02
"""Paths less likely than this are not worth a row of the target."""
_MOST_CHILDREN = 4


_Candidate = tuple[float, int, int, int, int, Place]
"""A node that may come next: its path's probability (negative: a heap gives the least), a number that no two share, its
token, parent and rank, and where its parent's path ends. A plain tuple, as a tree makes dozens."""


def likeliest_tree(sources: Sources, start: Place, max_nodes: int, ends: frozenset[int]) -> TokenTree:
    """At most so many nodes, the likeliest first; nothing follows the tokens in `ends`."""
    token_ids: list[int] = []
    parents: list[int] = []
    ranks: list[int] = []
    waiting: list[_Candidate] = []
    num_added = 0

    def expand(node: int, prob: float, place: Place) -> None:
        nonlocal num_added
        for rank, (token, share) in enumerate(sources.following(place)[:_MOST_CHILDREN]):
            if prob * share < _LEAST:
                break
            num_added += 1
            heapq.heappush(waiting, (-prob * share, num_added, token, node, rank, place))

    if max_nodes > 0:
        expand(-1, 1.0, start)
    while waiting and len(token_ids) < max_nodes:
        negative_prob, _, token, parent, rank, place = heapq.heappop(waiting)
        token_ids.append(token)
        parents.append(parent)
        ranks.append(rank)
        if token not in ends and len(token_ids) < max_nodes:
            expand(len(token_ids) - 1, -negative_prob, sources.behind(place, token))
    return TokenTree(tuple(token_ids), tuple(parents), tuple(ranks))
