"""What may follow a place in a text, by four sources, each leaving what it does not claim to the next: as longer
contexts leave theirs to shorter ones in a language model of n-grams.

1. places where the sequence said the same before, claimed as often as such repetitions of that length were true in it
2. trigrams of the sequence
3. trigrams of what was served to its tenant lately, if the tenant allows it
4. the n-gram table of the language
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engine.drafters.text.history import TextHistory
from engine.drafters.text.recent_ngrams import RecentNGrams
from engine.drafters.text.suffix_automaton import Occurrence
from engine.drafters.text.table import MAX_CONTEXT, NGramTable


class Place(NamedTuple):
    """Where a path ends: behind the sequence, behind assumed tokens, behind nodes."""

    behind: tuple[int, ...]
    """Tokens behind the sequence."""
    occurrences: tuple[Occurrence, ...]
    """Where the text stood before that goes on as this path does."""


@dataclass(frozen=True, slots=True)
class Sources:
    """For one proposal."""

    history: TextHistory
    served: RecentNGrams | None
    table: NGramTable | None

    def end(self, assumed: Sequence[int]) -> Place:
        """The end of the sequence with assumed tokens behind it."""
        return Place(tuple(assumed), tuple(self.history.places(assumed)))

    def following(self, place: Place) -> Sequence[tuple[int, float]]:
        """What may follow, with probabilities that sum to 1 at most; the likeliest first."""
        history = self.history
        context = (*history.tokens[-MAX_CONTEXT:], *place.behind)[-MAX_CONTEXT:]
        likely: dict[int, float] = {}
        left = 1.0
        for occurrence in place.occurrences:
            token = self._token_at(occurrence.follower, place)
            if token not in likely:
                claimed = left * history.repeats(occurrence.length)
                likely[token] = claimed
                left -= claimed
        if len(context) >= 2:
            for ngrams in (history.ngrams, self.served):
                if ngrams is not None and (shares := ngrams.following(context[-2], context[-1])):
                    left = _share_out(likely, left, shares.items())
        by_table = self.table.following(context) if self.table is not None else ()
        if not likely:
            return by_table
        _share_out(likely, left, by_table)
        return sorted(likely.items(), key=_unlikelihood)

    def behind(self, place: Place, token: int) -> Place:
        """One token on."""
        if not place.occurrences:
            return Place((*place.behind, token), ())
        going_on = tuple(
            Occurrence(occurrence.length + 1, occurrence.follower + 1)
            for occurrence in place.occurrences
            if self._token_at(occurrence.follower, place) == token
        )
        return Place((*place.behind, token), going_on)

    def _token_at(self, position: int, place: Place) -> int:
        """Of the sequence; where that ends, what stands behind it is read on, so a loop goes round."""
        tokens = self.history.tokens
        return tokens[position] if position < len(tokens) else place.behind[position - len(tokens)]


def _unlikelihood(item: tuple[int, float]) -> tuple[float, int]:
    """Of equals the lower id comes first."""
    return -item[1], item[0]


def _share_out(likely: dict[int, float], left: float, shares: Iterable[tuple[int, float]]) -> float:
    """Add a source's part of what is left; returns what it leaves."""
    claimed = 0.0
    for token, share in shares:
        likely[token] = likely.get(token, 0.0) + left * share
        claimed += share
    return left * max(1.0 - claimed, 0.0)
