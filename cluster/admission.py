"""How many streams a router takes at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cluster.errors import Overloaded


class Admission:
    """Counts the streams that are open. One event loop, no locks."""

    def __init__(self, max_streams: int) -> None:
        self._max_streams = max_streams
        self.num_streams = 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Holds one stream's place; Overloaded when there is none."""
        if self.num_streams >= self._max_streams:
            raise Overloaded(f"all {self._max_streams} streams of this router are taken; try again later")
        self.num_streams += 1
        try:
            yield
        finally:
            self.num_streams -= 1
