"""What trainers and drafter replicas tell Ray's metrics about learning (`ray_polydraft_*` at the nodes' /metrics).

| metric | kind | tags | meaning |
|---|---|---|---|
| polydraft_corrections_buffered | counter | drafter, tenant | overruled places that came to be learned from |
| polydraft_corrections_dropped | counter | drafter, tenant | of these, the ones that went for newer ones |
| polydraft_drafter_updates | counter | drafter, tenant | steps of a shadow |
| polydraft_drafter_promotions | counter | drafter, tenant | versions that became current |
| polydraft_drafter_refusals | counter | drafter, tenant | shadows that were thrown away |
| polydraft_answers_unlearned | counter | drafter | answers that did not reach the trainer |
"""

from __future__ import annotations

import asyncio

from ray.serve import metrics as serve_metrics
from ray.util import metrics

from deployments.draft_versions import DraftVersions
from training.online.trainer import DrafterTrainer, TrainerCounts

REPORT_S = 5.0
_COUNTERS = {
    "positions_taken": ("polydraft_corrections_buffered", "Overruled places that came to be learned from."),
    "positions_dropped": ("polydraft_corrections_dropped", "Overruled places that went for newer ones."),
    "updates": ("polydraft_drafter_updates", "Steps of a shadow."),
    "promotions": ("polydraft_drafter_promotions", "Versions that became current."),
    "refusals": ("polydraft_drafter_refusals", "Shadows that were thrown away."),
}
"""By field of `TrainerCounts`."""


class TrainerMetrics:
    """Of a trainer, which is no Serve replica."""

    def __init__(self, drafter: str, trainer: DrafterTrainer) -> None:
        self._drafter, self._trainer = drafter, trainer
        self._told: dict[str, TrainerCounts] = {}
        self._counters = {
            field: metrics.Counter(name, description, tag_keys=("drafter", "tenant"))
            for field, (name, description) in _COUNTERS.items()
        }

    def report(self) -> None:
        """Add what has come since the last report."""
        for tenant, status in self._trainer.status().items():
            told = self._told.get(tenant, TrainerCounts())
            for field, counter in self._counters.items():
                count = getattr(status.counts, field) - getattr(told, field)
                if count > 0:
                    counter.inc(count, tags={"drafter": self._drafter, "tenant": tenant})
            self._told[tenant] = status.counts


class LearnerMetrics:
    """Of a drafter replica, as long as `run` runs."""

    def __init__(self, drafter: str, versions: DraftVersions) -> None:
        self._drafter, self._versions = drafter, versions
        self._told = 0
        self._unlearned = serve_metrics.Counter(
            "polydraft_answers_unlearned", "Answers that did not reach the trainer.", tag_keys=("drafter",)
        )

    async def run(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            count, self._told = self._versions.num_dropped - self._told, self._versions.num_dropped
            if count > 0:
                self._unlearned.inc(count, tags={"drafter": self._drafter})
