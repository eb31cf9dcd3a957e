"""What a cluster holds, seen from inside: the heartbeats of all its replicas, and the directory's ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cluster.config import Config
from cluster.probes import target_id, tokenizer_hash
from cluster.tls import tier_files
from deployments.app import directory_name
from deployments.directory import DirectoryClient, start_directory
from deployments.fleet import GrpcFleet
from deployments.peer_client import Identity
from deployments.tls import connector

POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Held:
    """As the last heartbeats told."""

    target_sessions: int
    drafter_sessions: int
    waiting: int
    pages: int
    """Taken, of all targets; what is known and held by nobody is free."""

    @property
    def is_nothing(self) -> bool:
        return self == Held(0, 0, 0, 0)


class Observer:
    """A router that opens no session."""

    def __init__(self, config: Config, token: str) -> None:
        self._config = config
        model = config.target.model
        identity = Identity(
            router_id="observer",
            token=token,
            target_id=target_id(model),
            tokenizer_hash=tokenizer_hash(model / "tokenizer.json"),
            heartbeat_s=config.limits.heartbeat_s,
            lease_s=config.limits.lease_s,
        )
        self.directory = DirectoryClient(directory_name(config))
        self.fleet = GrpcFleet(identity, connector(tier_files(config)))

    @property
    def is_complete(self) -> bool:
        """Whether all replicas are connected."""
        drafters = self._config.tier_drafters
        return len(self.fleet.targets()) == self._config.target.replicas and all(
            len(self.fleet.drafters(name)) == drafter.replicas for name, drafter in drafters.items()
        )

    def held(self) -> Held:
        targets = [peer.load for peer in self.fleet.targets()]
        drafters = [peer.load for name in self._config.tier_drafters for peer in self.fleet.drafters(name)]
        usable = self._config.target.num_pages - 1  # one is the trash page
        return Held(
            target_sessions=sum(load.num_sessions for load in targets),
            drafter_sessions=sum(load.num_sessions for load in drafters),
            waiting=sum(load.queue_length for load in targets),
            pages=sum(usable - load.free_pages for load in targets),
        )

    async def wait_until_empty(self, timeout_s: float) -> tuple[float, str]:
        """Seconds until nothing is held any more; and what still was when the time was over, or nothing."""
        begin_s = time.monotonic()
        await self._heartbeats()  # the last ones told of an earlier moment
        left = "no answer of the directory"
        while (elapsed_s := time.monotonic() - begin_s) < timeout_s:
            num_streams = await self.directory.num_held_streams()
            held = self.held()
            if self.is_complete and held.is_nothing and num_streams == 0:
                return elapsed_s, ""
            left = f"{held}, {num_streams} streams in the ledger"
            await asyncio.sleep(POLL_S)
        return timeout_s, left

    async def _heartbeats(self) -> None:
        """Wait until all replicas have told of themselves once more."""
        await asyncio.sleep(2 * self._config.limits.heartbeat_s)


@asynccontextmanager
async def observing(config: Config) -> AsyncIterator[Observer]:
    """An observer that is connected to all replicas."""
    token: str = await start_directory(directory_name(config)).token.remote()
    observer = Observer(config, token)
    following = asyncio.create_task(observer.fleet.follow(observer.directory))
    try:
        async with asyncio.timeout(30):
            while not observer.is_complete:
                await asyncio.sleep(POLL_S)
        yield observer
    finally:
        following.cancel()
        await observer.fleet.stop()
