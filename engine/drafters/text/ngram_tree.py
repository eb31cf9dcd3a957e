"""Drafts trees from text alone: no model, no passes, next to no time (after ADED, 2407.12021, and SAM decoding,
2411.10666).

What may follow a place says `sources`; of that the tree takes the likeliest paths, best first. (ADED searches by PUCT;
`benchmarks/ngram_search.py` compares the two over the same probabilities.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.drafters.base import DraftLaw, DraftSession, DraftVerdict, DraftWork, Placement
from engine.drafters.config import DrafterConfig
from engine.drafters.text.best_first import likeliest_tree
from engine.drafters.text.history import TextHistory
from engine.drafters.text.recent_ngrams import RecentNGrams
from engine.drafters.text.sources import Sources
from engine.drafters.text.table import NGramTable
from engine.tree import TokenTree

_SERVED_CONTEXTS = 200_000
"""Of a tenant: about 50 MB."""
_MOST_TENANTS = 64


@dataclass(slots=True)
class _Session:
    """A sequence, and what of it was committed since it was opened: the target's own words."""

    history: TextHistory
    keep_for: str
    committed: list[int] = field(default_factory=list)


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

    def _tree(self, session: _Session, work: DraftWork) -> TokenTree:
        sources = Sources(session.history, self._served.get(session.keep_for), self._table)
        max_nodes = min(work.max_nodes, self._max_nodes) if session.history.tokens else 0
        return likeliest_tree(sources, sources.end(work.assumed), max_nodes, self._eos)

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
