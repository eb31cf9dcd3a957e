"""The drafter tier: one deployment a drafter. All logic is in `draft_service` and `engine.drafters`."""

from __future__ import annotations

import asyncio

from cluster.config import Config
from cluster.logs import configure
from cluster.tls import tier_files
from deployments.adaptation import TrainerClient
from deployments.directory import DirectoryClient
from deployments.replica import Replica, new_replica_id


class DrafterDeployment:
    """A replica of one drafter behind Ray Serve; routers reach it on its own port."""

    async def __init__(  # type: ignore[misc]  # awaited by Serve
        self, config: Config, drafter_name: str, directory_name: str, token: str
    ) -> None:
        # Here and not above: `serve` imports this module to build the application and must not load torch.
        from deployments.draft_service import DraftService
        from deployments.metrics import Exporter

        learns = bool(config.adapting_tenants_of(drafter_name))
        trainer = TrainerClient(config, drafter_name) if learns else None
        replica_id = new_replica_id(drafter_name)
        configure(config.logging, replica_id)
        service = DraftService(config, drafter_name, replica_id, token, trainer)
        self._replica = Replica("drafter", drafter_name, service, DirectoryClient(directory_name))
        self._signals = service.scaling_signals
        self._drain_s = config.limits.drain_s
        await self._replica.start(config.cluster.host, tier_files(config))
        self._reporting = asyncio.create_task(Exporter(service.measures).run())

    def record_autoscaling_stats(self) -> dict[str, float]:
        return self._signals()

    async def wake(self) -> None:
        """Nothing. While there is no replica a call that waits is demand for one."""

    def check_health(self) -> None:
        self._replica.check_health()

    async def __del__(self) -> None:
        self._reporting.cancel()
        await self._replica.stop(self._drain_s)
