"""A target replica over several processes: this one is rank 0, the others are actors in its placement group.

What belongs to one replica lives and dies together: when a shard is lost, rank 0 ends its own process, so that routers
move its sessions at once and Serve makes a new replica, with shards of its own. When rank 0 is lost, Ray ends the
actors that it started.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.config import Config, TargetConfig
from cluster.logs import configure
from deployments.engines import configured_device, configured_engine, configured_executor
from engine.engine import Engine
from engine.shards.group import ShardGroup, listen

logger = logging.getLogger(__name__)

_REASON_S = 5.0
"""A lost rank makes the others fail, perhaps before Ray has told what it was lost to."""


class TargetShard:
    """An actor with one part of the target; does what rank 0 does."""

    def run(self, config: Config, rank: int, port: int) -> None:
        """Until rank 0 stops."""
        configure(config.logging, f"target-shard-{rank}")
        configured_executor(config, _join(config.target, rank, port)).follow()


class Shards:
    """The other ranks of the replica that this process is."""

    def __init__(self, config: Config) -> None:
        self._config = config
        target = config.target
        self._listening = listen()
        port = self._listening.getsockname()[1]
        group = get_current_placement_group()
        assert group is not None, "a sharded target runs in a placement group"
        actor: Any = ray.remote(TargetShard)
        self._actors = [
            actor.options(
                num_cpus=target.num_cpus,
                num_gpus=target.num_gpus,
                enable_task_events=False,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
            ).remote()
            for rank in range(1, target.shards)
        ]
        self._runs = [
            asyncio.ensure_future(actor.run.remote(config, rank, port)) for rank, actor in enumerate(self._actors, 1)
        ]

    async def engine(self) -> Engine:
        """Load this rank's part beside the others. What any rank raises is raised: the model cannot be served."""
        loading = asyncio.create_task(asyncio.to_thread(self._load))
        await asyncio.wait([loading, *self._runs], return_when=asyncio.FIRST_COMPLETED)
        if loading.done() and loading.exception() is None:
            return loading.result()
        if loading.done():
            # Another rank's end may be the reason, and tells more.
            await asyncio.wait(self._runs, timeout=_REASON_S, return_when=asyncio.FIRST_COMPLETED)
        if any(run.done() for run in self._runs):
            raise RuntimeError(f"the target cannot be loaded: {self._why_lost()}")
        return await loading

    def watch(self, lost: Callable[[str], None]) -> None:
        """From now on call `lost` with the reason when another rank ends."""
        for run in self._runs:
            run.add_done_callback(lambda _: lost(self._why_lost()))

    def _load(self) -> Engine:
        port = self._listening.getsockname()[1]
        return configured_engine(self._config, _join(self._config.target, 0, port, self._listening))

    def _why_lost(self) -> str:
        rank, run = next((rank, run) for rank, run in enumerate(self._runs, 1) if run.done())
        if run.cancelled() or run.exception() is None:
            return f"shard {rank} ended"
        error = run.exception()
        cause = getattr(error, "cause", None) or error
        return f"shard {rank} is lost: {type(cause).__name__}" + ("" if isinstance(cause, RayError) else f": {cause}")


def end_replica(reason: str) -> None:
    """End this process at once: the engine's thread may be waiting for a rank that is gone."""
    logger.error("the replica ends: %s", reason)
    os._exit(1)


def _join(target: TargetConfig, rank: int, port: int, listening: socket.socket | None = None) -> ShardGroup:
    return ShardGroup.join(rank, target.shards, port, configured_device(target), listening)
