"""Asks for drafters that rest: while a deployment has no replica, Serve counts a call that waits as demand for one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from cluster.waking import DrafterStreams, Waking
from deployments.directory import drafter_deployment_name

logger = logging.getLogger(__name__)

LOOK_S = 0.5


class Fleet(Protocol):
    """What is looked at of `deployments.fleet.GrpcFleet`."""

    def connected(self) -> tuple[str, ...]: ...

    def drafts_pay(self) -> bool: ...


class DrafterWaker:
    """Of one router. One call waits for each drafter that is wanted and not there; requests wait for none."""

    def __init__(self, handles: Mapping[str, Any], streams: DrafterStreams, fleet: Fleet) -> None:
        self._handles = handles
        self._streams = streams
        self._fleet = fleet
        self._waking = Waking()
        self._calls: dict[str, Any] = {}
        self.thresholds: dict[str, int] = {}
        """How many streams each drafter that may rest is started for."""

    @property
    def resting(self) -> Collection[str]:
        """Deployments that may be without a replica."""
        return [drafter_deployment_name(name) for name in self.thresholds]

    async def run(self) -> None:
        while True:
            connected = self._fleet.connected()
            up = [name for name in self._handles if drafter_deployment_name(name) in connected]
            wanted = self._waking.wanted(
                self.thresholds, self._streams.peaks(), up, self._fleet.drafts_pay(), time.monotonic()
            )
            for name in wanted - self._calls.keys():
                self._calls[name] = self._handles[name].wake.remote()
                asyncio.create_task(self._answered(name))  # noqa: RUF006  # it ends with the call, which is kept
            for name in up:
                self._end(name)
            await asyncio.sleep(LOOK_S)

    def stop(self) -> None:
        for name in [*self._calls]:
            self._end(name)

    async def _answered(self, name: str) -> None:
        call = self._calls[name]
        try:
            await call
        except (Exception, asyncio.CancelledError) as error:
            # It is asked again when it is wanted at the next look.
            logger.info("the call that waits for drafter %s ended (%s)", name, type(error).__name__)
        if self._calls.get(name) is call:
            del self._calls[name]

    def _end(self, name: str) -> None:
        call = self._calls.pop(name, None)
        if call is not None:
            call.cancel()


def by_drafter(drafters: Sequence[str], tiers: Sequence[object]) -> dict[str, Any]:
    """The handles of drafters, which come after the target's."""
    return dict(zip(drafters, tiers[1:], strict=True)) if tiers else {}
