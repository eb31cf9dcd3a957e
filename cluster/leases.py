"""Signs of life between a router and its peers. Pure: time is an argument."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Lease:
    """One side's view of the other."""

    lease_s: float
    """Silence after which the other side is taken for dead."""
    heard_at: float

    def renew(self, now: float) -> None:
        """Any message is a sign of life."""
        self.heard_at = max(self.heard_at, now)

    def is_lost(self, now: float) -> bool:
        return now - self.heard_at > self.lease_s
