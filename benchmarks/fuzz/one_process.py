"""Routers and replicas in this process: without Ray, over real gRPC servers on loopback, with a token that is known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cluster.config import ClusterConfig, Config
from deployments.directory import Directory, DirectoryClient
from deployments.draft_service import DraftService
from deployments.replica import Replica
from deployments.router import Router
from deployments.target_service import TargetService

HOST, TOKEN = "127.0.0.1", "what-only-this-process-knows"


class LocalDirectory(DirectoryClient):
    """The table itself instead of an actor that holds it."""

    def __init__(self) -> None:
        super().__init__("local")
        self._table = Directory(TOKEN)

    async def _call(self, method: str, *arguments: object, timeout_s: float = 0.0) -> object:
        return getattr(self._table, method)(*arguments)

    async def address_of(self, name: str) -> str:
        """Of the first replica of that name, once it is registered."""
        while True:
            for registration in self._table.replicas():
                if registration.name == name:
                    return registration.address
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running_replica(
    service: TargetService | DraftService, name: str, directory: LocalDirectory
) -> AsyncIterator[str]:
    """The address of a replica that runs inside the block."""
    replica = Replica("target" if isinstance(service, TargetService) else "drafter", name, service, directory)
    await replica.start(HOST)
    try:
        yield await directory.address_of(name)
    finally:
        await replica.stop(drain_s=0.0)


@asynccontextmanager
async def running_router(config: Config, directory: LocalDirectory) -> AsyncIterator[str]:
    """The address of a router that runs inside the block."""
    router = Router(config.model_copy(update={"cluster": ClusterConfig(grpc_port=0)}), directory, TOKEN)
    await router.start()
    try:
        yield await directory.address_of("router")
    finally:
        await router.stop()
