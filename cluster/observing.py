"""Who follows calls: what the service and the session loop tell as an answer goes on.

Metrics (`cluster.call_metrics`) and traces are observers; the service knows only this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cluster.events import Event
from cluster.messages import Verdict
from cluster.request import Request

OK = "OK"
"""Code of a call that got its whole answer."""


class Watch(Protocol):
    """Follows one call. Called on the event loop at every turn of an answer: quick, and never raises."""

    @property
    def traceparent(self) -> str:
        """W3C trace context for the replicas; empty: the call is not traced."""

    def prepared(self, request: Request) -> None:
        """The call was let in; language and drafter are known."""

    def drafts_with(self, drafter: str | None) -> None:
        """The answer goes on with another drafter, or without one."""

    def opened(self, tier: str, replica_id: str) -> None:
        """A session was opened at a replica; tier is "target" or "drafter"."""

    def committed(self, verdict: Verdict, *, is_prefill: bool) -> None:
        """A round's verdict was taken; that of a prefill counts as none."""

    def lost(self, tier: str, replica_id: str) -> None:
        """A replica was lost, or has left, under the answer."""

    def wrote(self, event: Event) -> None:
        """Goes to the caller next."""

    def ended(self, code: str) -> None:
        """Last: "OK", or the code of the error."""


class Observer(Protocol):
    """Is told of every call that names a tenant of ours."""

    def call(self, request_id: str, tenant: str, traceparent: str) -> Watch:
        """It begins. `traceparent` is the caller's, W3C form, or empty."""

    def refused(self, tenant: str, code: str) -> None:
        """A call ended before it could begin, for want of the right key."""


class Unwatched:
    """Nobody follows."""

    traceparent = ""

    def prepared(self, request: Request) -> None: ...

    def drafts_with(self, drafter: str | None) -> None: ...

    def opened(self, tier: str, replica_id: str) -> None: ...

    def committed(self, verdict: Verdict, *, is_prefill: bool) -> None: ...

    def lost(self, tier: str, replica_id: str) -> None: ...

    def wrote(self, event: Event) -> None: ...

    def ended(self, code: str) -> None: ...


class Unobserved:
    """Nobody is told."""

    def call(self, request_id: str, tenant: str, traceparent: str) -> Watch:
        return Unwatched()

    def refused(self, tenant: str, code: str) -> None: ...


class Observers:
    """Several at once, each told in turn."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def call(self, request_id: str, tenant: str, traceparent: str) -> Watch:
        return _Watches([observer.call(request_id, tenant, traceparent) for observer in self._observers])

    def refused(self, tenant: str, code: str) -> None:
        for observer in self._observers:
            observer.refused(tenant, code)


class _Watches:
    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = watches
        self.traceparent = next((watch.traceparent for watch in watches if watch.traceparent), "")

    def _tell(self, tell: Callable[[Watch], None]) -> None:
        for watch in self._watches:
            tell(watch)

    def prepared(self, request: Request) -> None:
        self._tell(lambda watch: watch.prepared(request))

    def drafts_with(self, drafter: str | None) -> None:
        self._tell(lambda watch: watch.drafts_with(drafter))

    def opened(self, tier: str, replica_id: str) -> None:
        self._tell(lambda watch: watch.opened(tier, replica_id))

    def committed(self, verdict: Verdict, *, is_prefill: bool) -> None:
        self._tell(lambda watch: watch.committed(verdict, is_prefill=is_prefill))

    def lost(self, tier: str, replica_id: str) -> None:
        self._tell(lambda watch: watch.lost(tier, replica_id))

    def wrote(self, event: Event) -> None:
        self._tell(lambda watch: watch.wrote(event))

    def ended(self, code: str) -> None:
        self._tell(lambda watch: watch.ended(code))
