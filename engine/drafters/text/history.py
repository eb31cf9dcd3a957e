"""One sequence as drafting from text sees it: what it repeats, and how far its repetitions have been true so far."""

from __future__ import annotations

from collections.abc import Sequence

from engine.drafters.text.recent_ngrams import RecentNGrams
from engine.drafters.text.suffix_automaton import Occurrence, SuffixAutomaton

_MOST_CONTEXTS = 8_192
_MOST_PLACES = 3
"""Earlier places of the sequence's end that are followed."""
_LONGEST = 12
"""Longer repetitions count as this long."""
_FORGET = 0.98
_TRUST = 4.0
"""As how many looks counts what is assumed."""


def _assumed(length: int) -> float:
    """How often what followed a repeated suffix follows it again, before the sequence has told."""
    return min(0.1 + 0.12 * length, 0.85)


class TextHistory:
    """Everything follows from its tokens alone: no other sequence is looked at, and drafts leave no trace."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._automaton = SuffixAutomaton()
        self.ngrams = RecentNGrams(_MOST_CONTEXTS)
        self._true = [_TRUST * _assumed(length) for length in range(_LONGEST + 1)]
        self._looks = [_TRUST] * (_LONGEST + 1)
        """By length of the repeated suffix."""
        for token in tokens:
            self.append(token)

    @property
    def tokens(self) -> list[int]:
        return self._automaton.tokens

    def append(self, token: int) -> None:
        tokens = self.tokens
        repeated = self._automaton.longest_repeated()
        if repeated is not None:
            length = min(repeated[0], _LONGEST)
            self._looks[length] = _FORGET * self._looks[length] + 1.0
            self._true[length] = _FORGET * self._true[length] + (tokens[repeated[1]] == token)
        if len(tokens) >= 2:
            self.ngrams.add(tokens[-2], tokens[-1], token)
        self._automaton.append(token)

    def places(self, assumed: Sequence[int]) -> list[Occurrence]:
        """Where the end of the sequence, with assumed tokens behind it, stood before; the longest first."""
        return self._automaton.occurrences(assumed, _MOST_PLACES)

    def repeats(self, length: int) -> float:
        """How often in this sequence what followed a repeated suffix of that length followed it again."""
        length = min(length, _LONGEST)
        return self._true[length] / self._looks[length]
