"""Drafts by looking up: where the sequence's last tokens stood before, what followed them is proposed again.

The longest suffix that occurred before decides, its most recent place wins. It needs no model and knows nothing of
other sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.drafters.base import DraftLaw, DraftSession, DraftVerdict, DraftWork, Placement
from engine.drafters.config import DrafterConfig
from engine.tree import TokenTree


@dataclass(slots=True)
class _History:
    """A sequence and where its n-grams were last followed by something."""

    tokens: list[int] = field(default_factory=list)
    follower_of: dict[tuple[int, ...], int] = field(default_factory=dict)
    """n-gram -> the position behind its last place; the sequence's own suffix is not in it yet."""


class NGramDrafter:
    """Prompt and output lookup. `propose` costs O(nodes), `observe` O(tokens)."""

    placement = Placement.TARGET
    law = DraftLaw.ONE_HOT

    def __init__(self, sizes: Sequence[int], max_nodes: int, eos_token_ids: Sequence[int] = ()) -> None:
        """`sizes`: lengths of the suffixes looked up."""
        self._sizes = sorted(sizes, reverse=True)
        self._max_nodes = max_nodes
        self._eos = frozenset(eos_token_ids)
        self._histories: dict[int, _History] = {}

    @classmethod
    def from_config(cls, config: DrafterConfig) -> NGramDrafter:
        return cls(range(config.ngram_min, config.ngram_max + 1), config.max_nodes, config.eos_token_ids)

    def open(self, sessions: Sequence[DraftSession]) -> None:
        for session in sessions:
            history = _History()
            self._append(history, session.token_ids)
            self._histories[session.id] = history

    def propose(self, work: Sequence[DraftWork]) -> list[TokenTree]:
        return [TokenTree.chain(self._continuation(self._histories[item.session_id], item)) for item in work]

    def observe(self, verdicts: Sequence[DraftVerdict]) -> None:
        for verdict in verdicts:
            self._append(self._histories[verdict.session_id], verdict.token_ids)

    def prepare(self) -> bool:
        return False

    def close(self, session_ids: Sequence[int]) -> None:
        for session_id in session_ids:
            self._histories.pop(session_id, None)

    def _append(self, history: _History, token_ids: Sequence[int]) -> None:
        tokens = history.tokens
        for token in token_ids:
            end = len(tokens)
            for size in self._sizes:
                if size <= end:
                    history.follower_of[tuple(tokens[end - size :])] = end
            tokens.append(token)

    def _continuation(self, history: _History, work: DraftWork) -> list[int]:
        tokens = [*history.tokens, *work.assumed] if work.assumed else history.tokens
        max_nodes = min(work.max_nodes, self._max_nodes)
        for size in self._sizes:
            start = history.follower_of.get(tuple(tokens[-size:])) if size <= len(tokens) else None
            if start is not None:
                return self._copied(tokens, start, max_nodes)
        return []

    def _copied(self, tokens: list[int], start: int, max_nodes: int) -> list[int]:
        """The tokens from `start` on; at the end of the sequence the draft itself is read on, so a loop goes round."""
        draft: list[int] = []
        for position in range(start, start + max_nodes):
            token = tokens[position] if position < len(tokens) else draft[position - len(tokens)]
            draft.append(token)
            if token in self._eos:
                break
        return draft
