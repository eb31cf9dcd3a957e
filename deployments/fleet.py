"""The replicas that a router is connected to: `cluster.peers.Fleet` over gRPC, fed by the directory."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from deployments.directory import DirectoryClient, Registration
from deployments.peer_client import Identity, PeerClient
from deployments.tls import Connect

POLL_S = 0.5


class GrpcFleet:
    """Keeps one stream to each registered target and drafter replica."""

    def __init__(self, identity: Identity, connect: Connect) -> None:
        self._identity = identity
        self._connect = connect
        self._clients: dict[str, PeerClient] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    def targets(self) -> list[PeerClient]:
        return [client for client in self._clients.values() if client.registration.kind == "target" and client.is_ready]

    def drafters(self, name: str) -> list[PeerClient]:
        return [
            client
            for client in self._clients.values()
            if client.registration.kind == "drafter" and client.registration.name == name and client.is_ready
        ]

    def connected(self) -> tuple[str, ...]:
        """The deployments with a replica that sessions may be opened at."""
        names = {client.registration.deployment for client in self._clients.values() if client.is_ready}
        return tuple(sorted(names))

    def drafts_pay(self) -> bool:
        """Whether a target asks for drafts at present."""
        return any(not target.load.is_plain for target in self.targets())

    def num_replicas(self, deployments: Sequence[str]) -> list[tuple[str, int]]:
        """How many replicas of each deployment sessions may be opened at."""
        ready = Counter(client.registration.deployment for client in self._clients.values() if client.is_ready)
        return [(name, ready[name]) for name in deployments]

    async def changed(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return

    def update(self, registrations: Sequence[Registration]) -> None:
        """Connect to new replicas; let go of those that are neither registered nor connected."""
        known = {item.replica_id: item for item in registrations if item.kind != "router"}
        for replica_id in known.keys() - self._clients.keys():
            client = PeerClient(known[replica_id], self._identity, self._connect, time.monotonic, self._tell_change)
            self._clients[replica_id] = client
            self._runs[replica_id] = asyncio.create_task(client.run())
        for replica_id in [*self._clients]:
            if replica_id not in known and not self._clients[replica_id].is_connected:
                self._runs.pop(replica_id).cancel()
                del self._clients[replica_id]

    async def follow(self, directory: DirectoryClient) -> None:
        """Poll the directory until cancelled; while it is down the last copy stands."""
        while True:
            registrations = await directory.replicas()
            if registrations is not None:
                self.update(registrations)
            await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        runs = [*self._runs.values()]
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)

    def _tell_change(self) -> None:
        """Wake everyone who waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()
