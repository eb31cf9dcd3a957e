"""What is left of the tenants' limits, kept in one place for all routers. Pure: time is an argument.

Routers lease small amounts and spend them by themselves. A limit by time is a token bucket that may be overdrawn: what
costs more than is there is taken on and paid back first, so that large prompts need no large bucket and the rate holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

LEASE_S = 1.0
"""How long a router keeps what it does not spend."""
_LEAST_S = 0.1
"""Less than what comes in during this time is not granted, so that nobody asks for every single request."""
_SOONEST_S = 0.01
"""Nobody is told to ask again sooner."""
_PARTS = 4
"""A router's part of the free streams is granted in so many: another may just have come."""
_GONE_S = 5.0
"""Streams of a router that is silent for so long have ended."""


class Meter(Enum):
    """What is limited; values are what messages call it."""

    STREAMS = "streams at once"
    REQUESTS = "requests a second"
    PROMPT_TOKENS = "prompt tokens a minute"
    OUTPUT_TOKENS = "output tokens a minute"


@dataclass(frozen=True, slots=True)
class Claim:
    """A router on one limit of one tenant: what it has left, and whether it wants more."""

    tenant: str
    meter: Meter
    limit: float
    """A second; of streams: at once."""
    burst: float
    """What may be saved up."""
    left: float = 0.0
    """Of what was granted before; negative: overdrawn."""
    in_use: int = 0
    """Streams that are open."""
    wants: bool = True


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to a claim."""

    amount: float
    retry_after_s: float = 0.0
    """Nothing was granted: when to ask again."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The answer to a router."""

    grants: Sequence[Grant]
    """One a claim."""
    num_routers: int
    """That share the limits."""


class Ledger:
    """All limits of all tenants. What routers leave over comes back with their next claim."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, Meter], _Bucket] = {}
        self._streams: dict[str, _Streams] = {}

    def settle(self, router_id: str, claims: Sequence[Claim], num_routers: int, now_s: float) -> list[Grant]:
        """One grant a claim. A router gets its part of what there is: others may ask next."""
        grants: list[Grant] = []
        for claim in claims:
            if claim.meter is Meter.STREAMS:
                streams = self._streams.setdefault(claim.tenant, _Streams())
                grants.append(streams.settle(router_id, claim, num_routers, now_s))
            else:
                bucket = self._buckets.setdefault((claim.tenant, claim.meter), _Bucket(claim.burst, now_s))
                grants.append(bucket.settle(claim, num_routers, now_s))
        return grants

    def num_held_streams(self, now_s: float) -> int:
        """Streams that routers have open or may open, of all tenants together."""
        return sum(streams.num_held(now_s) for streams in self._streams.values())


@dataclass(slots=True)
class _Bucket:
    level: float
    """Negative: overdrawn."""
    filled_at_s: float

    def settle(self, claim: Claim, num_routers: int, now_s: float) -> Grant:
        self.level = min(self.level + claim.left + claim.limit * (now_s - self.filled_at_s), claim.burst)
        self.filled_at_s = now_s
        if not claim.wants:
            return Grant(0.0)
        missing = claim.limit * _LEAST_S - self.level
        if missing > 0:
            return Grant(0.0, max(missing / claim.limit, _SOONEST_S))
        amount = self.level / num_routers
        self.level -= amount
        return Grant(amount)


@dataclass(slots=True)
class _Streams:
    held: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By router: streams that it has open or may open, and when it said so."""

    def num_held(self, now_s: float) -> int:
        """Of the routers that are there."""
        self.held = {name: entry for name, entry in self.held.items() if now_s - entry[1] < _GONE_S}
        return sum(number for number, _ in self.held.values())

    def settle(self, router_id: str, claim: Claim, num_routers: int, now_s: float) -> Grant:
        self.held[router_id] = (claim.in_use, now_s)
        free = max(int(claim.limit) - self.num_held(now_s), 0)
        amount = math.ceil(free / num_routers / _PARTS) if claim.wants else 0
        self.held[router_id] = (claim.in_use + amount, now_s)
        return Grant(amount, 0.0 if amount else LEASE_S)
