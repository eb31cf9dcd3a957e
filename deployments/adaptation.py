"""The trainer of a drafter as a Ray actor: one for each drafter that learns, in a process of its own.

Drafting never waits for it. It is niced, has one torch thread, and can die: it goes on from the versions on disk.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError

from cluster.config import Config
from cluster.errors import ConfigError
from cluster.logs import configure
from cluster.measures import Measures
from deployments.directory import NAMESPACE

if TYPE_CHECKING:  # the process that builds the application must not load torch
    from deployments.draft_versions import Transcripts
    from training.online.settings import LearningSettings
    from training.online.trainer import TrainerStatus

logger = logging.getLogger(__name__)

_CALL_S = 5.0
_RETRY_S = 10.0
"""So long a trainer that does not answer is left alone: starting one loads torch."""
_NICENESS = 10
_REPORT_S = 5.0


class TrainerActor:
    """Takes answers on its event loop and learns in a thread."""

    def __init__(self, config: Config, drafter: str) -> None:
        import torch

        from deployments.adaptation_metrics import trainer_measures
        from deployments.metrics import Exporter
        from training.online.trainer import DrafterTrainer

        configure(config.logging, f"trainer-{drafter}")
        os.nice(_NICENESS)
        torch.set_num_threads(1)
        base, directory = config.drafters[drafter].model, config.adaptation.directory
        assert base is not None and directory is not None, drafter
        tenants = config.adapting_tenants_of(drafter)
        self._trainer = DrafterTrainer(base, directory / drafter, tenants, learning_settings(config))
        measures = Measures()
        self._metrics = Exporter(lambda: trainer_measures(measures, drafter, self._trainer), in_serve=False)
        self._has_news = threading.Event()
        self._error: BaseException | None = None
        threading.Thread(target=self._work, name="trainer", daemon=True).start()

    async def exchange(self, transcripts: Transcripts) -> dict[str, int]:
        """Take answers by tenant; each tenant's current version."""
        self._check()
        self._trainer.add(transcripts)
        if transcripts:
            self._has_news.set()
        return self._trainer.current()

    async def status(self) -> dict[str, TrainerStatus]:
        self._check()
        return self._trainer.status()

    async def roll_back(self, tenant: str, number: int | None) -> int:
        """Make an earlier version current; its number."""
        self._check()
        return self._trainer.roll_back(tenant, number)

    def _check(self) -> None:
        if self._error is not None:
            raise RuntimeError("the trainer stopped") from self._error

    def _work(self) -> None:
        try:
            while True:
                self._has_news.wait(_REPORT_S)
                self._has_news.clear()
                while self._trainer.work():
                    self._metrics.report()
                self._metrics.report()
        except BaseException as error:
            logger.exception("the trainer stopped")
            self._error = error


class TrainerClient:
    """The actor as a drafter replica uses it; one that is down is started again, and meanwhile nothing is learned."""

    def __init__(self, config: Config, drafter: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._config, self._drafter, self._clock = config, drafter, clock
        self._actor: Any = None  # a handle's methods exist at run time only
        self._asks_again_at = 0.0

    async def exchange(self, transcripts: Transcripts) -> Mapping[str, int] | None:
        if self._clock() < self._asks_again_at:
            return None
        try:
            if self._actor is None:
                self._actor = start_trainer(self._config, self._drafter)
            async with asyncio.timeout(_CALL_S):
                current: Mapping[str, int] = await self._actor.exchange.remote(transcripts)
                return current
        except (RayError, TimeoutError, ValueError) as error:
            self._actor = None
            self._asks_again_at = self._clock() + _RETRY_S
            logger.warning("the trainer of %s does not answer (%s)", self._drafter, type(error).__name__)
            return None


def trainer_name(cluster: str, drafter: str) -> str:
    """Of the named actor."""
    return f"{cluster}-trainer-{drafter}"


def start_trainer(config: Config, drafter: str) -> Any:
    """Handle of the drafter's trainer, started if there is none."""
    actor: Any = ray.remote(TrainerActor)
    return actor.options(
        name=trainer_name(config.cluster.name, drafter),
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=config.adaptation.num_cpus,
        max_restarts=-1,
    ).remote(config, drafter)


def adapting_drafters(config: Config) -> list[str]:
    """Those that learn from at least one tenant."""
    return [name for name in config.tier_drafters if config.adapting_tenants_of(name)]


def check_versions(config: Config) -> None:
    """Raise ConfigError unless the versions on disk can be gone on with. Brings torch."""
    from training.online.versions import VersionStore

    for name in adapting_drafters(config):
        base = config.drafters[name].model
        assert base is not None, name
        for tenant in config.adapting_tenants_of(name):
            try:
                VersionStore(version_folder(config, name, tenant), base, config.adaptation.kept_versions)
            except (OSError, ValueError) as error:
                raise ConfigError(f"adaptation.directory: {error}") from None


def learning_settings(config: Config) -> LearningSettings:
    from cluster.model_files import target_facts
    from training.online.settings import LearningSettings

    adaptation = config.adaptation
    return LearningSettings(
        target=config.target.model,
        vocab_size=target_facts(config).vocab_size,
        divergence=adaptation.divergence,
        buffer_positions=adaptation.buffer_positions,
        batch_positions=adaptation.batch_positions,
        updates_per_batch=adaptation.updates_per_batch,
        updates_per_gate=adaptation.updates_per_gate,
        learning_rate=adaptation.learning_rate,
        other_places=adaptation.other_places,
        new_tokens=adaptation.new_tokens,
        holdout_share=adaptation.holdout_share,
        holdout_sessions=adaptation.holdout_sessions,
        gate_tolerance=adaptation.gate_tolerance,
        kept_versions=adaptation.kept_versions,
    )


def version_folder(config: Config, drafter: str, tenant: str) -> Path:
    """Where the versions of a drafter for a tenant are."""
    assert config.adaptation.directory is not None, "the schema asks for it"
    return config.adaptation.directory / drafter / tenant
