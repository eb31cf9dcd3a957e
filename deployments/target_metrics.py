"""What a target replica counts: the engine's own counters, and what each round says of its draft."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cluster import catalogue as metrics
from cluster.labels import Names, offset_label
from cluster.measures import Measures
from engine.engine import Engine, StepOutcome


class TargetMetrics:
    """Of one engine. `count` runs on the event loop, `refresh` before each report."""

    def __init__(self, engine: Engine) -> None:
        self.measures = Measures()
        self._engine = engine
        self._drafters = Names()
        """Of tiers; routers name them."""
        self._walks: Counter[tuple[str, int, int]] = Counter()
        """Rounds with a draft: by drafter, depth compared and depth accepted."""

    def opened(self, drafter: str) -> None:
        """A session gets blocks of this drafter, if it is not empty; what it will be judged by is there from now on."""
        if drafter:
            for metric in (metrics.LATE_DRAFTS, metrics.DRAFTED_ROUNDS):
                self.measures.total(metric, self._drafters.label(drafter))

    def count(self, outcome: StepOutcome) -> None:
        """One round of a session."""
        if outcome.late_draft:
            self.measures.total(metrics.LATE_DRAFTS, self._drafters.label(outcome.drafter)).value += 1
        if outcome.num_drafted:
            self._walks[self._drafters.label(outcome.drafter), outcome.num_compared, outcome.num_accepted] += 1

    def refresh(self, num_sessions: int, num_unreadable: int) -> None:
        """Everything that is counted elsewhere. May miss what the engine is counting at this moment."""
        engine, set_to = self._engine, self.measures.set
        counters, scheduler = engine.counters, engine.scheduler
        for metric, value in (
            (metrics.STEPPING, counters.stepping_s),
            (metrics.WAITING, counters.waiting_s),
            (metrics.COMMITTED_TOKENS, counters.committed_tokens),
            (metrics.STALE_DRAFTS, counters.stale_drafts + num_unreadable),
            (metrics.PREFIX_HIT_TOKENS, counters.prefixes.hit_tokens),
            (metrics.PREEMPTIONS, scheduler.num_preemptions),
            (metrics.FAILED_SEQUENCES, counters.failed),
            (metrics.TARGET_SESSIONS, num_sessions),
            (metrics.QUEUED_SEQUENCES, engine.num_waiting),
            (metrics.KV_PAGES, scheduler.pool.num_usable),
            (metrics.KV_FREE_PAGES, engine.num_free_pages),
            (metrics.DRAFTING, engine.draft_lengths.drafts),
        ):
            set_to(metric, value)
        for nodes, count in engine.draft_lengths.chosen.copy().items():
            set_to(metrics.LENGTH_CHOICES, count, str(nodes))
        steps = self.measures.observations(metrics.STEP)
        while counters.step_times_s:
            steps.observe(counters.step_times_s.popleft())
        self._refresh_offsets()

    def _refresh_offsets(self) -> None:
        rounds: Counter[str] = Counter()
        compared: Counter[tuple[str, str]] = Counter()
        accepted: Counter[tuple[str, str]] = Counter()
        for (drafter, num_compared, num_accepted), count in self._walks.items():
            rounds[drafter] += count
            for offset in _offsets(num_compared):
                compared[drafter, offset] += count
            for offset in _offsets(num_accepted):
                accepted[drafter, offset] += count
        for drafter, number in rounds.items():
            self.measures.set(metrics.DRAFTED_ROUNDS, number, drafter)
        for key, number in compared.items():
            self.measures.set(metrics.OFFSETS_COMPARED, number, *key)
            self.measures.set(metrics.OFFSETS_ACCEPTED, accepted[key], *key)


def _offsets(depth: int) -> Sequence[str]:
    return [offset_label(offset) for offset in range(1, depth + 1)]
