"""Which resting drafters a router asks for. A drafter without a replica keeps nobody waiting: answers run undrafted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

PLAIN_RETRY_S = 600.0
"""While no target asks for drafts, a drafter is tried again after so long: targets cannot find out without one."""


class DrafterStreams:
    """How many streams of a router would use each drafter of a tier."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()
        self._peaks: Counter[str] = Counter()

    @contextmanager
    def opened(self, drafter: str | None) -> Iterator[None]:
        """One more inside the block."""
        if drafter is None:
            yield
            return
        self._open[drafter] += 1
        self._peaks[drafter] = max(self._peaks[drafter], self._open[drafter])
        try:
            yield
        finally:
            self._open[drafter] -= 1

    def peaks(self) -> Mapping[str, int]:
        """The most at once since this was last asked: an answer may be shorter than the time between."""
        peaks, self._peaks = self._peaks, Counter(self._open)
        return peaks


class Waking:
    """Decides whom to ask for, look by look."""

    def __init__(self) -> None:
        self._up_at: dict[str, float] = {}

    def wanted(
        self,
        thresholds: Mapping[str, int],
        streams: Mapping[str, int],
        up: Collection[str],
        drafts_pay: bool,
        now: float,
    ) -> set[str]:
        """The drafters to start: by name how many streams are needed, how many there are, and which have a replica."""
        self._up_at.update(dict.fromkeys(up, now))
        return {
            name
            for name, threshold in thresholds.items()
            if name not in up
            and streams.get(name, 0) >= threshold
            and (drafts_pay or now - self._up_at.get(name, -PLAIN_RETRY_S) >= PLAIN_RETRY_S)
        }
