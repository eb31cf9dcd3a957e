"""Drafters that run between the target's steps: their blocks need no message, and their time is the target's."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from engine.drafters.base import Drafter, DraftSession, DraftVerdict, DraftWork
from engine.session import Sequence


class LocalDrafters:
    """Keeps each drafter at what its sequences have committed. One thread."""

    def __init__(self, drafters: Mapping[str, Drafter]) -> None:
        self._drafters = dict(drafters)
        self._drafter_of: dict[int, str] = {}
        """Of sequences that a drafter knows; it meets them when it first drafts for them."""
        self.drafting_s = 0.0
        """Spent in drafters, what they learn from verdicts included."""
        self.num_nodes = 0
        """Drafted in it."""

    def __contains__(self, name: object) -> bool:
        return name in self._drafters

    @property
    def names(self) -> list[str]:
        return sorted(self._drafters)

    def draft(self, sequences: Iterable[Sequence]) -> None:
        """Give each sequence that drafts here, and whose next block has a length, its block."""
        wanted: dict[str, list[Sequence]] = {}
        for sequence in sequences:
            is_due = sequence.drafting.num_nodes > 0 and sequence.draft is None and sequence.can_draft
            if sequence.local is not None and sequence.local.method and is_due:
                wanted.setdefault(sequence.local.method, []).append(sequence)
        started_s = time.perf_counter()
        for name, due in wanted.items():
            self._meet(name, due)
            work = [DraftWork(sequence.id, sequence.drafting.num_nodes, sequence.round) for sequence in due]
            for sequence, tree in zip(due, self._drafters[name].propose(work), strict=True):
                sequence.draft = tree
                self.num_nodes += len(tree)
        self.drafting_s += time.perf_counter() - started_s

    def observe(self, verdicts: Iterable[DraftVerdict]) -> None:
        """Tell the drafters what was committed for the sequences that they know."""
        told: dict[str, list[DraftVerdict]] = {}
        for verdict in verdicts:
            name = self._drafter_of.get(verdict.session_id)
            if name is not None:
                told.setdefault(name, []).append(verdict)
        started_s = time.perf_counter()
        for name, of_drafter in told.items():
            self._drafters[name].observe(of_drafter)
        self.drafting_s += time.perf_counter() - started_s

    def close(self, session_id: int) -> None:
        """Forget a sequence; unknown ids are ignored."""
        name = self._drafter_of.pop(session_id, None)
        if name is not None:
            self._drafters[name].close([session_id])

    def _meet(self, name: str, sequences: Iterable[Sequence]) -> None:
        new = [sequence for sequence in sequences if self._drafter_of.get(sequence.id) != name]
        if not new:
            return
        for sequence in new:
            self.close(sequence.id)
            self._drafter_of[sequence.id] = name
        self._drafters[name].open(
            [
                DraftSession(
                    s.id,
                    tuple(s.token_ids),
                    s.request.sampling,
                    language=s.request.language,
                    keep_for=s.request.tenant if s.request.keeps_text else "",
                )
                for s in new
            ]
        )
