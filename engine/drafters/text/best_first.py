"""The likeliest tree within a budget, one node at a time: the likeliest of all that may come next."""

from __future__ import annotations

import heapq
from typing import NamedTuple

from engine.drafters.text.sources import Place, Sources
from engine.tree import TokenTree

_LEAST = 0.02
"""Paths less likely than this are not worth a row of the target."""
_MOST_CHILDREN = 4


class _Candidate(NamedTuple):
    """A node that may come next: ordered by the first two fields, which no two share."""

    negative_prob: float
    """Of its path."""
    order: int
    token: int
    parent: int
    rank: int
    behind: Place
    """Its parent's."""


def likeliest_tree(sources: Sources, start: Place, max_nodes: int, ends: frozenset[int]) -> TokenTree:
    """At most so many nodes, the likeliest first; nothing follows the tokens in `ends`."""
    token_ids: list[int] = []
    parents: list[int] = []
    ranks: list[int] = []
    waiting: list[_Candidate] = []
    num_added = 0

    def expand(node: int, prob: float, place: Place) -> None:
        nonlocal num_added
        least = _LEAST / prob
        likely = [(-share, token) for token, share in sources.following(place).items() if share >= least]
        for rank, (negative_share, token) in enumerate(sorted(likely)[:_MOST_CHILDREN]):
            num_added += 1
            heapq.heappush(waiting, _Candidate(prob * negative_share, num_added, token, node, rank, place))

    if max_nodes > 0:
        expand(-1, 1.0, start)
    while waiting and len(token_ids) < max_nodes:
        chosen = heapq.heappop(waiting)
        token_ids.append(chosen.token)
        parents.append(chosen.parent)
        ranks.append(chosen.rank)
        if chosen.token not in ends and len(token_ids) < max_nodes:
            expand(len(token_ids) - 1, -chosen.negative_prob, sources.behind(chosen.behind, chosen.token))
    return TokenTree(tuple(token_ids), tuple(parents), tuple(ranks))
