"""How many nodes of a block each of two drafters has, by what they were measured to bring and to cost.

    tokens(k) = 1 + (a_1 + ... + a_k) + R(k) (b_1 + ... + b_{n-k})
    time(k)   = round + pass(k)

of a block of n nodes, k of them the first drafter's: a_j and b_j are how often the j-th node of each was accepted,
those of the second where the first one's likeliest path was; R(k) is how often that was. The second costs next to
nothing beside the first, or there would be no cascade. All are moving averages.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from engine.costs import Floats, WaitCost
from engine.draft_length import NodeRates

_EXPLORE_EVERY = 16
"""Of so many blocks one is divided otherwise, in turn."""
_FORGET = 0.98
_LEAST_S = 1e-6


@dataclass(slots=True)
class _Share:
    """How often something came true, as if it had twice come half true before it was looked at."""

    hits: float = 1.0
    tries: float = 2.0

    def observe(self, *, is_hit: bool) -> None:
        self.hits = _FORGET * self.hits + is_hit
        self.tries = _FORGET * self.tries + 1.0

    @property
    def rate(self) -> float:
        return self.hits / self.tries


@dataclass(frozen=True, slots=True)
class Judged:
    """One drafter's part of a verified block."""

    num_asked: int
    num_nodes: int
    accepted: list[int]
    """Which of them."""


class Allocation:
    """Divides blocks. One thread."""

    def __init__(self, fixed: int | None = None) -> None:
        """`fixed`: the first drafter's nodes, where they are not to be measured."""
        self._fixed = fixed
        self.own, self.tail = NodeRates(), NodeRates()
        self._reached: defaultdict[int, _Share] = defaultdict(_Share)
        """By the first drafter's nodes: how often all of its likeliest path was accepted."""
        self._pass = WaitCost()
        self._round_s = 0.0
        self._num_chosen = 0

    def num_own(self, num_nodes: int) -> int:
        """Of a block of `num_nodes`, the first drafter's."""
        if self._fixed is not None:
            return min(self._fixed, num_nodes)
        self._num_chosen += 1
        if self._num_chosen % _EXPLORE_EVERY == 0:
            return self._num_chosen // _EXPLORE_EVERY % (num_nodes + 1)
        return int(self.promised(num_nodes).argmax())

    def promised(self, num_nodes: int) -> Floats:
        """Tokens a second of blocks whose first 0, 1, ... `num_nodes` nodes are the first drafter's."""
        k_K = np.arange(num_nodes + 1)
        own_K, tail_K = (
            np.concatenate(([0.0], (rates.acceptance() * rates.presence())[:num_nodes].cumsum()))
            for rates in (self.own, self.tail)
        )
        reached_K = np.array([1.0, *(self._reached[k].rate for k in range(1, num_nodes + 1))])
        per_node, per_pass = self._pass.fit()
        seconds_K = self._round_s + np.where(k_K > 0, per_pass + per_node * k_K, 0.0)
        promised_K: Floats = (1.0 + own_K + reached_K * tail_K[::-1]) / np.maximum(seconds_K, _LEAST_S)
        return promised_K

    def observe_pass(self, num_nodes: int, seconds: float) -> None:
        """The first drafter took so long for so many nodes of a session."""
        if num_nodes:
            self._pass.observe(num_nodes, seconds)

    def observe_round(self, own: Judged, tail: Judged | None) -> None:
        """A block was verified. `tail` is None if the first one's likeliest path was not accepted as a whole."""
        if own.num_asked:
            self.own.observe(own.num_asked, own.num_nodes, own.accepted)
            self._reached[own.num_asked].observe(is_hit=tail is not None)
        if tail is not None:
            self.tail.observe(tail.num_asked, tail.num_nodes, tail.accepted)

    def observe_wait(self, seconds: float) -> None:
        """From a block to its verdict."""
        self._round_s = seconds if self._round_s == 0.0 else self._round_s + 0.05 * (seconds - self._round_s)
