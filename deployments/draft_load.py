"""How busy a drafter replica was since it was last asked, for the scaling of its tier."""

from __future__ import annotations

from collections.abc import Callable


class DraftLoad:
    """Counts what comes in and how long it takes. Lives on one event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        self._peak = 0
        """More sessions than this never asked at the same time, however short they are."""
        self._asking: set[int] = set()
        self._busy_s = 0.0
        self._num_asked = self._num_late = 0

    def opened(self, num_sessions: int) -> None:
        """So many sessions are open now."""
        self._peak = max(self._peak, num_sessions)

    def asked(self, session: int, *, late: bool) -> None:
        """A session asks for a block; whether its last one came too late."""
        self._asking.add(session)
        self._num_asked += 1
        self._num_late += late

    def worked(self, began: float) -> None:
        """It drafted since `began`."""
        self._busy_s += self._clock() - began

    def signals(self, num_sessions: int) -> dict[str, float]:
        """Of the time since the last call: what `deployments.scaling` makes `DrafterSignals` of."""
        elapsed_s = max(self._clock() - self._since, 1e-6)
        signals = {
            "sessions": float(num_sessions),
            "asking": float(min(len(self._asking), self._peak)),
            "busy": min(self._busy_s / elapsed_s, 1.0),
            "asked": float(self._num_asked),
            "late": float(self._num_late),
        }
        self._since = self._clock()
        self._peak = num_sessions
        self._asking.clear()
        self._busy_s = 0.0
        self._num_asked = self._num_late = 0
        return signals
