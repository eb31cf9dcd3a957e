"""The target tier: one replica holds the whole model, with its shards. Logic is in `target_service` and `engine`."""

from __future__ import annotations

import asyncio

from cluster.config import Config
from cluster.logs import configure
from cluster.tls import tier_files
from deployments.directory import DirectoryClient
from deployments.replica import Replica, new_replica_id


class TargetDeployment:
    """A target replica behind Ray Serve; routers reach it on its own port."""

    async def __init__(  # type: ignore[misc]  # awaited by Serve
        self, config: Config, directory_name: str, token: str
    ) -> None:
        # Here and not above: `serve` imports this module to build the application and must not load torch.
        from deployments.metrics import Exporter
        from deployments.shards import Shards, end_replica
        from deployments.target_service import TargetService

        replica_id = new_replica_id("target")
        configure(config.logging, replica_id)
        self._is_leaving = False
        engine = None
        if config.target.shards > 1:
            shards = Shards(config)
            engine = await shards.engine()
            shards.watch(lambda reason: None if self._is_leaving else end_replica(reason))
        service = TargetService(config, replica_id, token, engine)
        self._replica = Replica("target", "target", service, DirectoryClient(directory_name))
        self._signals = service.scaling_signals
        self._drain_s = config.limits.drain_s
        await self._replica.start(config.cluster.host, tier_files(config))
        self._reporting = asyncio.create_task(Exporter(service.measures).run())

    def record_autoscaling_stats(self) -> dict[str, float]:
        return self._signals()

    def check_health(self) -> None:
        self._replica.check_health()

    async def __del__(self) -> None:
        self._is_leaving = True
        self._reporting.cancel()
        await self._replica.stop(self._drain_s)
