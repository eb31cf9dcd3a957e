"""How the rows of one step are divided among running sequences, their drafts, and prefill. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

PREFILL_SHARE = 0.25
"""Of all rows: drafts leave so many to prefill, so that it always moves on."""


@dataclass(slots=True)
class RowBudget:
    """Rows that are still to give away. Each running sequence gets its one row whatever others draft or prefill."""

    total: int
    for_prefill: int
    for_drafts: int

    @classmethod
    def of_step(cls, max_rows: int, prefill_rows: int, pending: SequenceOf[int]) -> RowBudget:
        """A budget for sequences with so many pending tokens; prefill takes at most `prefill_rows`."""
        num_running = pending.count(1)
        kept = min(sum(pending) - num_running, prefill_rows, int(max_rows * PREFILL_SHARE))
        return cls(max_rows, prefill_rows, max(max_rows - num_running - kept, 0))

    def lend(self, most: int) -> None:
        """Give away at most so many more."""
        self.total = min(self.total, most)

    def tokens_for(self, num_pending: int) -> int:
        """How many of its pending tokens a sequence may read; 0 when no rows are left for it."""
        return min(num_pending, self.total if num_pending == 1 else min(self.total, self.for_prefill))

    def nodes_for(self, num_tokens: int) -> int:
        """How many nodes may be drafted after so many tokens."""
        return min(self.for_drafts, self.total - num_tokens)

    def take(self, num_pending: int, num_tokens: int, num_nodes: int) -> None:
        """Give rows to a sequence."""
        self.total -= num_tokens + num_nodes
        self.for_drafts -= num_nodes
        if num_pending > 1:
            self.for_prefill -= num_tokens
