"""A tier drafter in a thread of its own: takes what came in, drafts for all sessions that ask in one batch."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
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


@dataclass(slots=True)
class _Standing:
    """Where a session stands: committed tokens, hash, largest block."""

    length: int
    hash: int
    max_nodes: int


class DraftLoop:
    """Runs a drafter. Calls may come from any thread; blocks are handed over in the drafter's thread."""

    def __init__(self, drafter: Drafter, on_blocks: Callable[[Sequence[DraftedBlock]], None]) -> None:
        self._drafter = drafter
        self._on_blocks = on_blocks
        self._opened: list[tuple[DraftSession, int]] = []
        self._observed: list[tuple[int, DraftVerdict]] = []
        self._closed: list[int] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._error: BaseException | None = None
        self._standings: dict[int, _Standing] = {}
        self._thread = threading.Thread(target=self._run, name="drafter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the block in progress."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def open(self, session: DraftSession, max_nodes: int) -> None:
        """Take a sequence on and wait for its first `observe`."""
        with self._changed:
            self._opened.append((session, max_nodes))
            self._changed.notify()

    def observe(self, base_length: int, verdict: DraftVerdict) -> None:
        """Tokens were committed after `base_length`: draft the next block. Ids are unique over the loop's life."""
        with self._changed:
            self._observed.append((base_length, verdict))
            self._changed.notify()

    def close(self, session_id: int) -> None:
        with self._changed:
            self._closed.append(session_id)
            self._changed.notify()

    def check_health(self) -> None:
        """Raise RuntimeError if the thread has ended by itself."""
        if self._error is not None:
            raise RuntimeError("the drafter stopped") from self._error

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    while not (self._opened or self._observed or self._closed or self._stopping):
                        self._changed.wait()
                    if self._stopping:
                        return
                    opened, observed, closed = self._opened, self._observed, self._closed
                    self._opened, self._observed, self._closed = [], [], []
                self._work(opened, observed, closed)
        except BaseException as error:
            logger.exception("the drafter stopped")
            self._error = error

    def _work(
        self, opened: list[tuple[DraftSession, int]], observed: list[tuple[int, DraftVerdict]], closed: list[int]
    ) -> None:
        """One turn: sessions come, learn what was committed, get a block each, and go."""
        for session, max_nodes in opened:
            length, digest = len(session.token_ids), extend_hash(EMPTY_HASH, session.token_ids)
            self._standings[session.id] = _Standing(length, digest, max_nodes)
        self._drafter.open([session for session, _ in opened])
        self._close(closed)
        verdicts = [verdict for base_length, verdict in observed if self._advance(base_length, verdict)]
        self._drafter.observe(verdicts)
        self._propose({verdict.session_id for verdict in verdicts})

    def _close(self, session_ids: Sequence[int]) -> None:
        for session_id in session_ids:
            self._standings.pop(session_id, None)
        self._drafter.close(session_ids)

    def _advance(self, base_length: int, verdict: DraftVerdict) -> bool:
        """Append committed tokens; False for a session that is gone or stands elsewhere (it then gets no blocks)."""
        standing = self._standings.get(verdict.session_id)
        if standing is None:
            return False
        if standing.length != base_length:
            logger.warning(
                "session %d stands at %d, not at %d: closed", verdict.session_id, standing.length, base_length
            )
            self._close([verdict.session_id])
            return False
        standing.length += len(verdict.token_ids)
        standing.hash = extend_hash(standing.hash, verdict.token_ids)
        return True

    def _propose(self, session_ids: set[int]) -> None:
        wanted = [DraftWork(session_id, self._standings[session_id].max_nodes) for session_id in sorted(session_ids)]
        if not wanted:
            return
        trees = self._drafter.propose(wanted)
        blocks = []
        for work, tree in zip(wanted, trees, strict=True):
            standing = self._standings[work.session_id]
            blocks.append(DraftedBlock(work.session_id, standing.length, standing.hash, tree))
        self._on_blocks(blocks)
