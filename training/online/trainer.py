"""The trainer of one drafter: for each tenant that adapts, a shadow that learns, is judged, and becomes a version.

Corrections may come in, and a version may be rolled back, from another thread than the one that works.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.drafter import load_drafter
from training.online.acceptance import acceptance
from training.online.gate import judge
from training.online.learner import Diverged, Learner
from training.online.replay import ReplayBuffer, Transcript
from training.online.settings import LearningSettings
from training.online.versions import Version, VersionStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainerCounts:
    """Since the trainer's start."""

    positions_taken: int = 0
    """Overruled places that came to be learned from."""
    positions_dropped: int = 0
    """Of these, the ones that went for newer ones."""
    updates: int = 0
    promotions: int = 0
    refusals: int = 0
    """Judgements that threw a shadow away."""


@dataclass(frozen=True, slots=True)
class TrainerStatus:
    """What is known of one tenant's versions."""

    current: int
    versions: tuple[Version, ...]
    counts: TrainerCounts
    last_judgement: str
    """Empty before the first."""


class TenantTrainer:
    """One drafter's learning for one tenant. Nothing of it is seen by others."""

    def __init__(self, base: Path, directory: Path, settings: LearningSettings) -> None:
        """Raises ValueError if `directory` holds versions of another drafter than the one at `base`."""
        self.store = VersionStore(directory, base, settings.kept_versions)
        self._settings = settings
        self._buffer = ReplayBuffer(
            settings.buffer_positions,
            settings.holdout_share,
            settings.holdout_sessions,
            bytes.fromhex(self.store.history.key),
        )
        self._lock = threading.Lock()
        self._rng = random.Random(self.store.history.key)
        self._max_rows = load_drafter(base)[1].num_rows + settings.new_tokens
        self._learner: Learner | None = None
        self._num_used = 0
        """Places taken that updates were made for."""
        self._num_owed = 0
        """Updates that are due."""
        self._num_unjudged = 0
        """Updates since the last judgement."""
        self._since_parent = 0
        """Updates since the current version."""
        self._updates, self._promotions, self._refusals = 0, 0, 0
        self._last_judgement = ""

    def add(self, transcripts: Iterable[Transcript]) -> None:
        """Take answers of this tenant."""
        with self._lock:
            self._buffer.add(transcripts)

    def work(self) -> bool:
        """One update or one judgement, if one is due; else False. Takes up to a few seconds."""
        if self._num_unjudged >= self._settings.updates_per_gate:
            with self._lock:
                learner, held_out = self._learner, self._buffer.held_out
            if learner is not None and held_out is not None:
                self._judge(learner, held_out)
                return True
        return self._update()

    def roll_back(self, number: int | None) -> int:
        """Make an earlier version current, by default the parent; its number. ValueError says what there is.

        All that was gathered is forgotten: what is promoted next was learned and judged on later answers.
        """
        with self._lock:
            parents = {version.number: version.parent for version in self.store.history.versions}
            self.store.roll_back(parents.get(self.store.current, 0) if number is None else number)
            self._buffer.clear()
            self._forget_shadow()
            return self.store.current

    def status(self) -> TrainerStatus:
        counts = TrainerCounts(
            self._buffer.num_taken, self._buffer.num_dropped, self._updates, self._promotions, self._refusals
        )
        return TrainerStatus(self.store.current, self.store.history.versions, counts, self._last_judgement)

    def _update(self) -> bool:
        with self._lock:
            while self._buffer.num_taken - self._num_used >= self._settings.batch_positions:
                self._num_used += self._settings.batch_positions
                self._num_owed = self._settings.updates_per_batch  # more than can be made are never owed
            if not self._num_owed or not self._buffer.num_positions:
                return False
            self._num_owed -= 1
            learner = self._learner or self._new_learner()
            self._learner = learner
            batch = self._buffer.sample(self._settings.batch_positions, self._rng)
        try:
            learner.update(batch)
        except Diverged as error:
            logger.warning("a shadow is thrown away: %s", error)
            with self._lock:
                self._refusals += 1
                self._forget_shadow()
            return True
        with self._lock:
            self._updates += 1
            if self._learner is learner:
                self._num_unjudged += 1
                self._since_parent += 1
        return True

    def _judge(self, learner: Learner, held_out: Sequence[Transcript]) -> None:
        current = load_drafter(self.store.path(self.store.current))
        judgement = judge(
            acceptance(*current, held_out),
            acceptance(learner.average, learner.vocabulary, held_out),
            self._settings.gate_tolerance,
        )
        with self._lock:
            if self._learner is not learner:
                return  # rolled back meanwhile
            self._last_judgement = judgement.reason
            self._num_unjudged = 0
            if judgement.is_promoted:
                num_positions = self._since_parent * self._settings.batch_positions
                version = self.store.promote(
                    learner.average, learner.vocabulary, judgement, self._since_parent, num_positions
                )
                self._promotions += 1
                self._since_parent = 0
                learner.meet(self._buffer.learned, self._max_rows)
                logger.info("version %d is promoted: %s", version.number, judgement.reason)
            else:
                self._refusals += 1
                self._forget_shadow()
                logger.info("a shadow is thrown away: %s", judgement.reason)

    def _new_learner(self) -> Learner:
        """A shadow of the current version that knows the traffic's tokens."""
        learner = Learner(*load_drafter(self.store.path(self.store.current)), self._settings)
        learner.meet(self._buffer.learned, self._max_rows)
        return learner

    def _forget_shadow(self) -> None:
        self._learner = None
        self._num_owed, self._num_unjudged, self._since_parent = 0, 0, 0


class DrafterTrainer:
    """The trainers of one drafter, by tenant."""

    def __init__(self, base: Path, directory: Path, tenants: Iterable[str], settings: LearningSettings) -> None:
        self._tenants = {tenant: TenantTrainer(base, directory / tenant, settings) for tenant in tenants}

    def add(self, transcripts: Mapping[str, Sequence[Transcript]]) -> None:
        """Take answers by tenant; those of tenants that do not adapt are dropped."""
        for tenant in self._tenants.keys() & transcripts.keys():
            self._tenants[tenant].add(transcripts[tenant])

    def work(self) -> bool:
        """A piece of work for each tenant that has some; False if none has."""
        return any([trainer.work() for trainer in self._tenants.values()])

    def current(self) -> dict[str, int]:
        """Each tenant's current version."""
        return {tenant: trainer.store.current for tenant, trainer in self._tenants.items()}

    def roll_back(self, tenant: str, number: int | None) -> int:
        """See `TenantTrainer.roll_back`; ValueError for a tenant that does not adapt."""
        if tenant not in self._tenants:
            known = ", ".join(sorted(self._tenants))
            raise ValueError(f"tenant {tenant!r} does not adapt this drafter; those that do: {known}")
        return self._tenants[tenant].roll_back(number)

    def status(self) -> dict[str, TrainerStatus]:
        return {tenant: trainer.status() for tenant, trainer in self._tenants.items()}
