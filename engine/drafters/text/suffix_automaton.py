"""Where the end of a sequence stood before: an online suffix automaton (Blumer et al. 1985) over token ids.

A state stands for all substrings that end at the same places. `append` takes amortised constant time; the longest
suffix that occurred before is one step away at any moment (as SAM decoding uses it: 2411.10666).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_ROOT = 0
_NONE = -1
_MOST_LINKS = 16
"""Suffixes whose last place is noted with each token. Shorter ones keep an older place, which is as true."""


class Occurrence(NamedTuple):
    """A suffix of the sequence, and where it stood before."""

    length: int
    follower: int
    """Position of the token behind the earlier place."""


class SuffixAutomaton:
    """Of one sequence that only grows."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self._next: list[dict[int, int]] = [{}]
        self._link = [_NONE]
        self._length = [0]
        self._last_end = [_NONE]
        """Where a state's strings last ended: a position."""
        self._end_before = [_NONE]
        """Where they had ended before that."""
        self._whole = _ROOT
        """The state of the whole sequence."""

    def append(self, token: int) -> None:
        state = self._new_state(self._length[self._whole] + 1, {}, _NONE)
        place, self._whole = self._whole, state
        while place != _NONE and token not in self._next[place]:
            self._next[place][token] = state
            place = self._link[place]
        if place == _NONE:
            self._link[state] = _ROOT
        else:
            self._link[state] = self._shortest_form(place, token)
        self._note_end(state, len(self.tokens))
        self.tokens.append(token)

    def longest_repeated(self) -> tuple[int, int] | None:
        """Length of the longest suffix that occurs earlier, and the position behind its latest earlier place."""
        state = self._link[self._whole]
        if state <= _ROOT:
            return None
        return self._length[state], self._end_before[state] + 1

    def occurrences(self, more: Sequence[int], most: int) -> list[Occurrence]:
        """Of the longest suffixes of the sequence and `more` behind it that occur earlier: the latest place of each.

        The longest first, at most so many.
        """
        state, length = self._whole, len(self.tokens)
        for token in more:
            while state != _ROOT and token not in self._next[state]:
                state = self._link[state]
                length = self._length[state]
            state = self._next[state].get(token, _ROOT)
            length = length + 1 if state != _ROOT else 0
        found: list[Occurrence] = []
        end = len(self.tokens) - 1
        while state != _ROOT and len(found) < most:
            earlier = self._last_end[state] if self._last_end[state] != end else self._end_before[state]
            if earlier != _NONE:  # nothing stands behind the end of the sequence yet
                found.append(Occurrence(min(length, self._length[state]), earlier + 1))
            state = self._link[state]
            length = self._length[state]
        return found

    def _new_state(self, length: int, following: dict[int, int], link: int) -> int:
        self._next.append(following)
        self._link.append(link)
        self._length.append(length)
        self._last_end.append(_NONE)
        self._end_before.append(_NONE)
        return len(self._length) - 1

    def _shortest_form(self, place: int, token: int) -> int:
        """The state of the strings of `place` with the token behind them, apart from longer ones."""
        known = self._next[place][token]
        if self._length[known] == self._length[place] + 1:
            return known
        clone = self._new_state(self._length[place] + 1, dict(self._next[known]), self._link[known])
        self._last_end[clone], self._end_before[clone] = self._last_end[known], self._end_before[known]
        while place != _NONE and self._next[place].get(token) == known:
            self._next[place][token] = clone
            place = self._link[place]
        self._link[known] = clone
        return clone

    def _note_end(self, state: int, position: int) -> None:
        """The state's strings, and those that are suffixes of them, end here too."""
        for _ in range(_MOST_LINKS):
            if state == _ROOT:
                return
            self._end_before[state], self._last_end[state] = self._last_end[state], position
            state = self._link[state]
