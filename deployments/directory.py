"""What all replicas must agree on: one named actor, where they register and where routers lease the tenants' limits.

Both are plain memory: replicas register again every second and routers tell what they hold, so an actor that was
restarted is soon complete. Routers work from their last copy meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ray
from ray.exceptions import RayError

from cluster.ledger import Claim, Ledger, Settled
from cluster.status import ReplicaStatus, Report

logger = logging.getLogger(__name__)

NAMESPACE = "polydraft"
REGISTER_S = 1.0
EXPIRY_S = 5.0
_CALL_S = 5.0
_SETTLE_S = 0.5
"""A request waits for this answer."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A replica and where to reach it."""

    kind: Literal["target", "drafter", "router"]
    name: str
    """Of the deployment: "target", "router", or the drafter's name in the configuration."""
    replica_id: str
    """New with each start of a replica."""
    address: str
    """host:port of the replica's own server."""
    numerics_id: str = ""
    connected: tuple[str, ...] = ()
    """Of a router: the deployments that it can open sessions at."""

    @property
    def deployment(self) -> str:
        """What Serve calls it."""
        return drafter_deployment_name(self.name) if self.kind == "drafter" else self.name


class Directory:
    """The table. A registration that is not repeated expires."""

    def __init__(self, token: str, clock: Callable[[], float] = time.monotonic, expiry_s: float = EXPIRY_S) -> None:
        self._token = token
        self._clock = clock
        self._expiry_s = expiry_s
        self._seen: dict[str, tuple[float, Registration]] = {}
        self._reports: dict[str, tuple[float, Report]] = {}
        self._ledger = Ledger()

    def token(self) -> str:
        """What routers and replicas prove themselves with: the same for all that this cluster ever deploys."""
        return self._token

    def register(self, registration: Registration) -> None:
        """Add or renew."""
        self._seen[registration.replica_id] = (self._clock(), registration)

    def unregister(self, replica_id: str) -> None:
        """Remove at once; unknown ids are ignored."""
        self._seen.pop(replica_id, None)
        self._reports.pop(replica_id, None)

    def tell(self, replica_id: str, report: Report) -> None:
        """Keep a replica's last report, for operators."""
        self._reports[replica_id] = (self._clock(), report)

    def status(self) -> list[ReplicaStatus]:
        """All replicas with what they told last."""
        registrations = self.replicas()
        self._reports = {key: told for key, told in self._reports.items() if key in self._seen}
        return [_status(one, *self._reports.get(one.replica_id, (0.0, None))) for one in registrations]

    def replicas(self) -> list[Registration]:
        """Those that registered within the expiry time, oldest first."""
        oldest = self._clock() - self._expiry_s
        self._seen = {key: entry for key, entry in self._seen.items() if entry[0] >= oldest}
        return [registration for _, registration in self._seen.values()]

    def settle(self, router_id: str, claims: Sequence[Claim]) -> Settled:
        """Lease parts of tenants' limits to a router."""
        num_routers = sum(registration.kind == "router" for registration in self.replicas())
        return Settled(self._ledger.settle(router_id, claims, max(num_routers, 1), self._clock()), num_routers)

    def num_held_streams(self) -> int:
        """What routers hold of the tenants' streams: 0 soon after the last answer."""
        return self._ledger.num_held_streams(self._clock())


def _status(registration: Registration, at_s: float, report: Report | None) -> ReplicaStatus:
    return ReplicaStatus(
        registration.kind,
        registration.deployment,
        registration.replica_id,
        registration.address,
        registration.numerics_id,
        registration.connected,
        at_s,
        report,
    )


class DirectoryClient:
    """The actor as replicas and routers use it: a directory that is down is waited out, never an error."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._actor: Any = None  # a handle's methods exist at run time only

    async def register(self, registration: Registration) -> None:
        await self._call("register", registration)

    async def unregister(self, replica_id: str) -> None:
        await self._call("unregister", replica_id)

    async def tell(self, replica_id: str, report: Report) -> None:
        await self._call("tell", replica_id, report)

    async def replicas(self) -> list[Registration] | None:
        """None while the directory is down."""
        found = await self._call("replicas")
        return found if isinstance(found, list) else None

    async def status(self) -> list[ReplicaStatus] | None:
        """None while the directory is down."""
        found = await self._call("status")
        return found if isinstance(found, list) else None

    async def settle(self, router_id: str, claims: Sequence[Claim]) -> Settled | None:
        """None while the directory is down."""
        settled = await self._call("settle", router_id, claims, timeout_s=_SETTLE_S)
        return settled if isinstance(settled, Settled) else None

    async def num_held_streams(self) -> int | None:
        """None while the directory is down."""
        number = await self._call("num_held_streams")
        return number if isinstance(number, int) else None

    async def keep_registered(
        self,
        current: Callable[[], Registration],
        report: Callable[[], Report],
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Register and report now and again until cancelled; `wait` may end early when something has changed."""
        while True:
            registration = current()
            await self.register(registration)
            await self.tell(registration.replica_id, report())
            await wait(REGISTER_S)

    async def _call(self, method: str, *arguments: object, timeout_s: float = _CALL_S) -> object:
        try:
            if self._actor is None:
                self._actor = start_directory(self._name)
            async with asyncio.timeout(timeout_s):
                return await getattr(self._actor, method).remote(*arguments)
        except (RayError, TimeoutError, ValueError) as error:
            self._actor = None
            logger.warning("the directory does not answer (%s)", type(error).__name__)
            return None


def drafter_deployment_name(name: str) -> str:
    return f"drafter-{name}"


def named_directory(cluster: str) -> str:
    """Name of a cluster's directory actor."""
    return f"{cluster}-directory"


def start_directory(name: str) -> Any:
    """Handle of the named actor, started if there is none."""
    actor: Any = ray.remote(Directory)
    return actor.options(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        enable_task_events=False,  # Ray would keep a record of each call
    ).remote(secrets.token_hex(16))
