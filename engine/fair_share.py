"""Who is served next, and how much of the engine is whose: shares of tenants by weight. Pure arithmetic.

Virtual token counters after Sheng et al. (2401.00588): each tenant's rows are counted, divided by its weight, and who
was served least comes first. A tenant that comes back is counted as if it had been served as little as anybody who
stayed: being away earns nothing.
"""

from __future__ import annotations

from collections.abc import Mapping


class FairShare:
    """Counters of the tenants that have sequences now."""

    def __init__(self) -> None:
        self._weights: dict[str, float] = {}
        self._total_weight = 0.0
        """Kept because a step asks for the share of every sequence's tenant."""
        self._served: dict[str, float] = {}
        """Rows by weight; those who left keep theirs until the engine is idle."""

    def update(self, weights: Mapping[str, float]) -> None:
        """These tenants have sequences now."""
        least = min((self._served[tenant] for tenant in weights if tenant in self._weights), default=0.0)
        for tenant in weights.keys() - self._weights.keys():
            self._served[tenant] = max(self._served.get(tenant, 0.0), least)
        self._weights = dict(weights)
        self._total_weight = sum(weights.values())
        if not weights:
            self._served.clear()

    def charge(self, tenant: str, num_rows: int) -> None:
        """Count rows that a tenant is served."""
        self._served[tenant] += num_rows / self._weights[tenant]

    def served(self, tenant: str) -> float:
        return self._served[tenant]

    def share(self, tenant: str, total: int) -> float:
        """What a tenant may hold of `total` while all who are there want it; at least 1."""
        return max(total * self._weights[tenant] / self._total_weight, 1.0)

    def most_over(self, held: Mapping[str, int], total: int) -> str | None:
        """Of tenants that hold more than their share, the one that holds most for its weight."""
        over = [tenant for tenant, amount in held.items() if amount > self.share(tenant, total)]
        return max(over, key=lambda tenant: held[tenant] / self._weights[tenant], default=None)
