"""A tier drafter's work: collects what came in and drafts for all sessions that ask in one batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from engine.drafters.base import Drafter, DraftSession, DraftVerdict, DraftWork
from engine.hashing import EMPTY_HASH, extend_hash
from engine.tree import TokenTree

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DraftedBlock:
    """A proposal and the sequence that it builds on."""

    session_id: int
    base_length: int
    base_hash: int
    tree: TokenTree


@dataclass(frozen=True, slots=True)
class Committed:
    """Tokens that the target committed after `base_length`, and how large a block it wants next; 0: none."""

    base_length: int
    verdict: DraftVerdict
    max_nodes: int


@dataclass(slots=True)
class _Standing:
    """Where a session stands: committed tokens, hash, largest block."""

    length: int
    hash: int
    max_nodes: int


class DraftQueue:
    """What waits for a drafter. Not thread-safe; `turn` takes milliseconds. Session ids are unique over its life."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self._opened: list[tuple[DraftSession, int]] = []
        self._committed: list[Committed] = []
        self._closed: list[int] = []
        self._standings: dict[int, _Standing] = {}

    def open(self, session: DraftSession, max_nodes: int) -> None:
        """Take a sequence on; its first block comes after its first `commit`."""
        self._opened.append((session, max_nodes))

    def commit(self, committed: Committed) -> None:
        """Tokens were committed: draft the next block if one is wanted."""
        self._committed.append(committed)

    def close(self, session_id: int) -> None:
        self._closed.append(session_id)

    @property
    def is_empty(self) -> bool:
        return not (self._opened or self._committed or self._closed)

    def turn(self) -> list[DraftedBlock]:
        """Sessions come, learn what was committed, get a block each, and go."""
        opened, committed, closed = self._opened, self._committed, self._closed
        self._opened, self._committed, self._closed = [], [], []
        for session, max_nodes in opened:
            length, digest = len(session.token_ids), extend_hash(EMPTY_HASH, session.token_ids)
            self._standings[session.id] = _Standing(length, digest, max_nodes)
        self._drafter.open([session for session, _ in opened])
        self._close(closed)
        advanced = [item for item in committed if self._advance(item)]
        advanced = [item for item in advanced if item.verdict.session_id in self._standings]  # a later one closed it
        self._drafter.observe([item.verdict for item in advanced])
        return self._propose({item.verdict.session_id: item.max_nodes for item in advanced if item.max_nodes})

    def prepare(self) -> bool:
        """Use a moment in which nothing waits for the blocks to come; False if there is nothing left to prepare."""
        return self._drafter.prepare()

    def _close(self, session_ids: Sequence[int]) -> None:
        for session_id in session_ids:
            self._standings.pop(session_id, None)
        self._drafter.close(session_ids)

    def _advance(self, committed: Committed) -> bool:
        """Append committed tokens; False for tokens that are known, and for a session that is gone.

        One that misses tokens is closed: it gets no more blocks.
        """
        verdict = committed.verdict
        standing = self._standings.get(verdict.session_id)
        if standing is None:
            return False
        if committed.base_length < standing.length:
            return False
        if committed.base_length > standing.length:
            logger.warning(
                "session %d stands at %d, not at %d: closed", verdict.session_id, standing.length, committed.base_length
            )
            self._close([verdict.session_id])
            return False
        standing.length += len(verdict.token_ids)
        standing.hash = extend_hash(standing.hash, verdict.token_ids)
        return True

    def _propose(self, wanted: dict[int, int]) -> list[DraftedBlock]:
        if not wanted:
            return []
        work = [
            DraftWork(session_id, min(max_nodes, self._standings[session_id].max_nodes))
            for session_id, max_nodes in sorted(wanted.items())
        ]
        blocks = []
        for item, tree in zip(work, self._drafter.propose(work), strict=True):
            standing = self._standings[item.session_id]
            blocks.append(DraftedBlock(item.session_id, standing.length, standing.hash, tree))
        return blocks
