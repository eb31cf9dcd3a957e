"""What is counted about drafters that learn while they serve."""

from __future__ import annotations

from cluster import catalogue as metrics
from cluster.measures import Measures
from training.online.trainer import DrafterTrainer

_FIELDS = {
    "positions_taken": metrics.CORRECTIONS_BUFFERED,
    "positions_dropped": metrics.CORRECTIONS_DROPPED,
    "updates": metrics.DRAFTER_UPDATES,
    "promotions": metrics.DRAFTER_PROMOTIONS,
    "refusals": metrics.DRAFTER_REFUSALS,
}
"""By field of `TrainerCounts`."""


def trainer_measures(measures: Measures, drafter: str, trainer: DrafterTrainer) -> Measures:
    """The measures of a drafter's trainer, up to now."""
    for tenant, status in trainer.status().items():
        for field, metric in _FIELDS.items():
            measures.set(metric, getattr(status.counts, field), drafter, tenant)
    return measures
