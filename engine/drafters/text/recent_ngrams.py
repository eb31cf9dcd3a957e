"""What followed two tokens lately: trigram counts of text as it comes, in bounded memory (ADED, 2407.12021)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

_MOST_FOLLOWERS = 6
"""Of two tokens; the rarest gives way."""
_TRUST = 1.0
"""As how many sightings counts that something never seen follows."""


class RecentNGrams:
    """Trigrams; the two tokens that were not looked at for longest are forgotten first."""

    def __init__(self, max_contexts: int) -> None:
        self._max_contexts = max_contexts
        self._followers: OrderedDict[tuple[int, int], dict[int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._followers)

    def add(self, first: int, second: int, follower: int) -> None:
        """`follower` stood behind the two."""
        key = (first, second)
        counts = self._followers.get(key)
        if counts is None:
            counts = self._followers[key] = {}
            if len(self._followers) > self._max_contexts:
                self._followers.popitem(last=False)
        else:
            self._followers.move_to_end(key)
        if follower not in counts and len(counts) == _MOST_FOLLOWERS:
            del counts[min(counts, key=lambda token: counts[token])]
        counts[follower] = counts.get(follower, 0) + 1

    def add_text(self, tokens: Sequence[int]) -> None:
        for place in range(2, len(tokens)):
            self.add(tokens[place - 2], tokens[place - 1], tokens[place])

    def following(self, first: int, second: int) -> dict[int, float]:
        """Probabilities; what they lack to 1 is that something else follows."""
        counts = self._followers.get((first, second))
        if not counts:
            return {}
        total = sum(counts.values()) + _TRUST
        return {token: count / total for token, count in counts.items()}
