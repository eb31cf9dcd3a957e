"""How many streams a router takes at once, in all and of one tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.errors import Overloaded
from cluster.tenants import Tenant


class Admission:
    """Counts the streams that are open. One event loop, no locks."""

    def __init__(self, max_streams: int) -> None:
        self._max_streams = max_streams
        self._open: Counter[str] = Counter()

    @property
    def num_streams(self) -> int:
        return self._open.total()

    @contextmanager
    def admitted(self, tenant: Tenant) -> Iterator[None]:
        """Holds one stream's place; Overloaded when there is none."""
        if self.num_streams >= self._max_streams:
            raise Overloaded(f"all {self._max_streams} streams of this router are taken; try again later")
        if self._open[tenant.name] >= tenant.config.max_concurrent:
            raise Overloaded(
                f"tenant '{tenant.name}' has all of its {tenant.config.max_concurrent} streams open; try again later"
            )
        self._open[tenant.name] += 1
        try:
            yield
        finally:
            self._open[tenant.name] -= 1
