"""Drafts trees from text alone: no model, no passes, next to no time (after ADED, 2407.12021, and SAM decoding,
2411.10666).

A node's children come from four sources, each leaving what it does not claim to the next, as longer contexts leave
theirs to shorter ones in a language model of n-grams:

1. places where the sequence said the same before, claimed as often as such repetitions of that length were true in it
2. trigrams of the sequence
3. trigrams of what was served to its tenant lately, if the tenant allows it
4. the n-gram table of the language, three tokens of context before two before one

The tree grows by its likeliest node, so nodes come likeliest first, and the n nodes are the n likeliest paths. (ADED
searches by PUCT: many descents for the tree that the best-first order finds in one, as the value of a path here is its
probability.)
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.drafters.base import DraftLaw, DraftSession, DraftVerdict, DraftWork, Placement
from engine.drafters.config import DrafterConfig
from engine.drafters.text.history import TextHistory
from engine.drafters.text.recent_ngrams import RecentNGrams
from engine.drafters.text.suffix_automaton import Occurrence
from engine.drafters.text.table import MAX_CONTEXT, NGramTable
from engine.tree import TokenTree

_LEAST = 0.02
"""Paths less likely than this are not worth a row of the target."""
_MOST_CHILDREN = 4
_SERVED_CONTEXTS = 200_000
"""Of a tenant: about 50 MB."""
_MOST_TENANTS = 64


@dataclass(slots=True)
class _Session:
    """A sequence, and what of it was committed since it was opened: the target's own words."""

    history: TextHistory
    keep_for: str
    committed: list[int] = field(default_factory=list)


class _Candidate(NamedTuple):
    """A node that may come next: they are ordered by the first two fields, which no two share."""

    negative_prob: float
    order: int
    parent: int
    rank: int
    path: tuple[int, ...]
    """Tokens from the root to it."""
    places: tuple[Occurrence, ...]
    """Where the text stood before that goes on as this path does."""


class NGramTreeDrafter:
    """For one language, or with no table for any."""

    placement = Placement.TARGET
    law = DraftLaw.NONE

    def __init__(self, table: NGramTable | None, max_nodes: int, eos_token_ids: Sequence[int] = ()) -> None:
        self._table = table
        self._max_nodes = max_nodes
        self._eos = frozenset(eos_token_ids)
        self._sessions: dict[int, _Session] = {}
        self._served: dict[str, RecentNGrams] = {}
        """By tenant."""

    @classmethod
    def from_config(cls, config: DrafterConfig) -> NGramTreeDrafter:
        """ValueError if the table is of another target, or broken."""
        table = NGramTable(config.model, config.vocab_size) if config.model is not None else None
        return cls(table, config.max_nodes, config.eos_token_ids)

    def open(self, sessions: Sequence[DraftSession]) -> None:
        for session in sessions:
            self._sessions[session.id] = _Session(TextHistory(session.token_ids), session.keep_for)

    def propose(self, work: Sequence[DraftWork]) -> list[TokenTree]:
        return [self._tree(self._sessions[item.session_id], item) for item in work]

    def observe(self, verdicts: Sequence[DraftVerdict]) -> None:
        for verdict in verdicts:
            session = self._sessions[verdict.session_id]
            for token in verdict.token_ids:
                session.history.append(token)
            if session.keep_for:
                session.committed += verdict.token_ids

    def prepare(self) -> bool:
        return False

    def close(self, session_ids: Sequence[int]) -> None:
        for session_id in session_ids:
            session = self._sessions.pop(session_id, None)
            if session is not None and session.keep_for:
                self._keep(session)

    def _keep(self, session: _Session) -> None:
        served = self._served.pop(session.keep_for, None) or RecentNGrams(_SERVED_CONTEXTS)
        self._served[session.keep_for] = served  # now the last to go
        while len(self._served) > _MOST_TENANTS:
            del self._served[next(iter(self._served))]
        served.add_text(session.committed)

    # -- the tree ------------------------------------------------------------------------------------------------

    def _tree(self, session: _Session, work: DraftWork) -> TokenTree:
        """The likeliest paths, one node at a time."""
        history, assumed = session.history, work.assumed
        before = (*history.tokens[-MAX_CONTEXT:], *assumed)[-MAX_CONTEXT:]
        served = self._served.get(session.keep_for)
        token_ids: list[int] = []
        parents: list[int] = []
        ranks: list[int] = []
        num_added = 0
        waiting: list[_Candidate] = []

        def expand(node: int, prob: float, path: tuple[int, ...], places: tuple[Occurrence, ...]) -> None:
            nonlocal num_added
            behind = (*assumed, *path)
            likely = self._following(history, served, (*before, *path)[-MAX_CONTEXT:], behind, places)
            least = _LEAST / prob
            best = sorted([(-share, token) for token, share in likely.items() if share >= least])[:_MOST_CHILDREN]
            for rank, (negative_share, token) in enumerate(best):
                going_on = _going_on(history.tokens, behind, places, token) if places else ()
                num_added += 1
                heapq.heappush(
                    waiting, _Candidate(prob * negative_share, num_added, node, rank, (*path, token), going_on)
                )

        max_nodes = min(work.max_nodes, self._max_nodes)
        if max_nodes > 0 and history.tokens:
            expand(-1, 1.0, (), tuple(history.places(assumed)))
        while waiting and len(token_ids) < max_nodes:
            chosen = heapq.heappop(waiting)
            token_ids.append(chosen.path[-1])
            parents.append(chosen.parent)
            ranks.append(chosen.rank)
            if chosen.path[-1] not in self._eos and len(token_ids) < max_nodes:
                expand(len(token_ids) - 1, -chosen.negative_prob, chosen.path, chosen.places)
        return TokenTree(tuple(token_ids), tuple(parents), tuple(ranks))

    def _following(
        self,
        history: TextHistory,
        served: RecentNGrams | None,
        context: tuple[int, ...],
        behind: tuple[int, ...],
        places: tuple[Occurrence, ...],
    ) -> dict[int, float]:
        """What may follow, with probabilities: each source has its part of what those before it left."""
        likely: dict[int, float] = {}
        left = 1.0
        for place in places:
            token = _token_at(history.tokens, behind, place.follower)
            if token not in likely:
                claimed = left * history.repeats(place.length)
                likely[token] = claimed
                left -= claimed
        if len(context) >= 2:
            for ngrams in (history.ngrams, served):
                if ngrams is not None:
                    left = _share_out(likely, left, ngrams.following(context[-2], context[-1]).items())
        if self._table is not None:
            _share_out(likely, left, self._table.following(context))
        return likely


def _share_out(likely: dict[int, float], left: float, shares: Iterable[tuple[int, float]]) -> float:
    """Add a source's part of what is left; returns what it leaves."""
    claimed = 0.0
    for token, share in shares:
        likely[token] = likely.get(token, 0.0) + left * share
        claimed += share
    return left * max(1.0 - claimed, 0.0)


def _token_at(tokens: Sequence[int], behind: Sequence[int], position: int) -> int:
    """Of the sequence; where that ends, the draft behind it is read on, so a loop goes round."""
    return tokens[position] if position < len(tokens) else behind[position - len(tokens)]


def _going_on(
    tokens: Sequence[int], behind: Sequence[int], places: Sequence[Occurrence], token: int
) -> tuple[Occurrence, ...]:
    """Those places where this token follows, one on."""
    return tuple(
        Occurrence(place.length + 1, place.follower + 1)
        for place in places
        if _token_at(tokens, behind, place.follower) == token
    )
