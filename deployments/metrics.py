"""What a target tells Ray's metrics (`ray_polydraft_*` at the nodes' /metrics, tagged by Serve with the replica).

| metric | kind | tags | meaning |
|---|---|---|---|
| polydraft_draft_length_choices | counter | nodes | how often blocks of that size were asked for (0: plain) |
| polydraft_late_drafts | counter | | rounds that ran undrafted because their block came too late |
| polydraft_stale_drafts | counter | | blocks that were dropped: they build on another sequence, or hold no tree |
| polydraft_prefix_hit_tokens | counter | | tokens whose keys and values were found in shared pages |
| polydraft_preemptions | counter | | sequences that lost their pages and were computed again |
| polydraft_failed_sequences | counter | | sequences that were given up because the model gave no numbers |
"""

from __future__ import annotations

import asyncio
from collections import Counter

from ray.serve import metrics

from deployments.target_service import TargetCounts, TargetService

REPORT_S = 5.0


class TargetMetrics:
    """Reports a service's counts as long as `run` runs."""

    def __init__(self, service: TargetService) -> None:
        self._service = service
        self._told = TargetCounts()
        self._lengths = metrics.Counter(
            "polydraft_draft_length_choices", "Blocks asked for, by their number of nodes.", tag_keys=("nodes",)
        )
        self._late_drafts = metrics.Counter("polydraft_late_drafts", "Rounds whose block came too late.")
        self._stale_drafts = metrics.Counter("polydraft_stale_drafts", "Blocks that were dropped.")
        self._hit_tokens = metrics.Counter("polydraft_prefix_hit_tokens", "Tokens found in shared pages.")
        self._preemptions = metrics.Counter("polydraft_preemptions", "Sequences that lost their pages.")
        self._failed = metrics.Counter("polydraft_failed_sequences", "Sequences for which the model gave no numbers.")

    async def run(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            self.report()

    def report(self) -> None:
        """Add what has come since the last report."""
        counts, told = self._service.counts(), self._told
        for nodes, count in (Counter(counts.draft_lengths) - Counter(told.draft_lengths)).items():
            self._lengths.inc(count, tags={"nodes": str(nodes)})
        for counter, count in (
            (self._late_drafts, counts.late_drafts - told.late_drafts),
            (self._stale_drafts, counts.stale_drafts - told.stale_drafts),
            (self._hit_tokens, counts.prefix_hit_tokens - told.prefix_hit_tokens),
            (self._preemptions, counts.preemptions - told.preemptions),
            (self._failed, counts.failed - told.failed),
        ):
            if count > 0:
                counter.inc(count)
        self._told = counts
