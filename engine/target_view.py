"""What drafters in the target's step see of the target: steps without some sublayers, over the KV of what is committed.

Their own KV lies in the slots behind, in pages that are lent while the pool has them and go back before the step is
planned; verification takes pages as if nobody had drafted, and writes what it reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor

from engine.batch import WorkItem
from engine.executor import Executor
from engine.scheduler import Scheduler
from engine.session import Sequence as Session
from engine.skipping import SkipSet
from engine.tree import TokenTree


class EngineView:
    """A `TargetView` of one engine, between its steps."""

    def __init__(self, executor: Executor, scheduler: Scheduler) -> None:
        self._executor, self._scheduler = executor, scheduler

    @property
    def num_layers(self) -> int:
        return len(self._executor.target.kv_layers)

    def skip_problem(self, skip: SkipSet) -> str | None:
        """Why the target cannot leave these out, or None."""
        return self._executor.target.sublayers.problem(skip)

    @contextmanager
    def scratch(self, num_tokens: Mapping[int, int]) -> Iterator[PoolScratch]:
        """Room for up to so many tokens behind each of some sequences."""
        pool, sessions = self._scheduler.pool, [self._scheduler.sequences[session_id] for session_id in num_tokens]
        num_held = [len(session.pages) for session in sessions]
        try:
            rooms = {session.id: self._room(session, num_tokens[session.id]) for session in sessions}
            yield PoolScratch(self._executor, {session.id: session for session in sessions}, rooms)
        finally:
            for session, count in zip(sessions, num_held, strict=True):
                pool.shrink(session.pages, count * pool.page_size)

    def _room(self, session: Session, num_tokens: int) -> int:
        """Tokens that may be drafted: as many as a round could commit, or at least as its pages hold."""
        if session.num_pending != 1 or not session.admitted:
            return 0
        pool, first = self._scheduler.pool, session.num_cached
        room = min(num_tokens, self._scheduler.num_draftable(session))
        if room > 0 and not pool.grow(session.pages, first + room):
            room = min(room, len(session.pages) * pool.page_size - first)
        return max(room, 0)


class PoolScratch:
    """A `Scratch` in the engine's pool."""

    def __init__(self, executor: Executor, sessions: Mapping[int, Session], rooms: Mapping[int, int]) -> None:
        self._executor, self._sessions, self._rooms = executor, sessions, rooms
        self._num_read = dict.fromkeys(sessions, 0)

    def room(self, session_id: int) -> int:
        return self._rooms[session_id]

    def read(self, token_ids: Mapping[int, Sequence[int]], skip: SkipSet) -> Tensor:
        """Read further tokens of some sequences; logits [N, V] after the last of each, in the model's dtype."""
        items = [self._item(session_id, tokens) for session_id, tokens in token_ids.items()]
        logits_NV, _ = self._executor.run(items, skip)
        return logits_NV

    def _item(self, session_id: int, token_ids: Sequence[int]) -> WorkItem:
        session, start = self._sessions[session_id], self._num_read[session_id]
        self._num_read[session_id] += len(token_ids)
        assert self._num_read[session_id] <= self._rooms[session_id], "a draft is longer than its room"
        return WorkItem(token_ids, session.num_cached + start, session.pages, TokenTree(), wants_logits=True)
