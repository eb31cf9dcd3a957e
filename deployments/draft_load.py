"""How busy a drafter replica was since it was last asked, for the scaling of its tier."""

from __future__ import annotations

from collections.abc import Callable


class DraftLoad:
    """Counts what comes in and how long it takes. Lives on one event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waiting: list[float] = []
        """When the blocks were asked for that are not out yet."""
        self._begin()

    def asked(self, *, late: bool) -> None:
        """A session asks for a block; whether its last one came too late."""
        self._waiting.append(self._clock())
        self._num_asked += 1
        self._num_late += late

    def worked(self, began: float) -> None:
        """Since `began` the blocks were made that had been asked for; they are out now."""
        now = self._clock()
        self._busy_s += now - began
        self._waited_s += sum(now - max(asked, self._since) for asked in self._waiting)
        self._waiting.clear()

    def signals(self, num_sessions: int) -> dict[str, float]:
        """Of the time since the last call: what `deployments.scaling` makes `DrafterSignals` of."""
        elapsed_s = max(self._clock() - self._since, 1e-6)
        signals = {
            "sessions": float(num_sessions),
            "busy": min(self._busy_s / elapsed_s, 1.0),
            "backlog": self._waited_s / elapsed_s,
            "asked": float(self._num_asked),
            "late": float(self._num_late),
        }
        self._begin()
        return signals

    def _begin(self) -> None:
        self._since = self._clock()
        self._busy_s = self._waited_s = 0.0
        self._num_asked = self._num_late = 0
