"""Calls as numbers: the observer that counts."""

from __future__ import annotations

from collections.abc import Callable

from cluster import catalogue as metrics
from cluster.config import Config
from cluster.errors import CODES
from cluster.events import Chunk, Event, Finished
from cluster.labels import OTHER, Labels
from cluster.ledger import Meter
from cluster.measures import Measures
from cluster.messages import Verdict
from cluster.observing import OK
from cluster.request import Request
from cluster.routing import UNKNOWN_LANGUAGE

_LIMITS = {
    Meter.STREAMS: "max_concurrent",
    Meter.REQUESTS: "requests_per_s",
    Meter.PROMPT_TOKENS: "prompt_tokens_per_minute",
    Meter.OUTPUT_TOKENS: "output_tokens_per_minute",
}
"""As the configuration calls them."""


class CallMetrics:
    """Counts the calls of a router. Whatever dashboards and alerts ask for is there from the start, at 0."""

    def __init__(self, config: Config, measures: Measures, now: Callable[[], float]) -> None:
        self.labels = Labels(config)
        self.measures = measures
        self.now = now
        for language in (*config.known_languages, UNKNOWN_LANGUAGE):
            measures.total(metrics.FAILOVERS, language)
        for drafter in config.tier_drafters:
            measures.total(metrics.LOST_DRAFTERS, drafter)
        for code in (OK, *CODES):
            measures.total(metrics.CALLS, OTHER, UNKNOWN_LANGUAGE, code)
        self.use_tenants(config)

    def use_tenants(self, config: Config) -> None:
        """These are the tenants now."""
        self.labels.use_tenants(config)
        for tenant in self.labels.tenants:
            self.measures.total(metrics.OPEN_STREAMS, tenant)
            for limit in _LIMITS.values():
                self.measures.total(metrics.LIMITS_HIT, tenant, limit)

    def call(self, request_id: str, tenant: str, traceparent: str) -> CallWatch:
        return CallWatch(self, self.labels.tenant(tenant))

    def refused(self, tenant: str, code: str) -> None:
        self.measures.total(metrics.CALLS, self.labels.tenant(tenant), UNKNOWN_LANGUAGE, code).value += 1

    def hit_limit(self, tenant: str, meter: Meter) -> None:
        """A limit of a tenant was reached."""
        self.measures.total(metrics.LIMITS_HIT, self.labels.tenant(tenant), _LIMITS[meter]).value += 1


class CallWatch:
    """Counts one call."""

    traceparent = ""

    def __init__(self, of: CallMetrics, tenant: str) -> None:
        self._of = of
        self._tenant = tenant
        self._language, self._drafter = UNKNOWN_LANGUAGE, of.labels.drafter(None)
        self._begun_s = of.now()
        self._last_s: float | None = None
        """Of the last chunk."""
        self._total = of.measures.total
        self._observations = of.measures.observations
        self._open = self._total(metrics.OPEN_STREAMS, tenant)
        self._open.value += 1

    def prepared(self, request: Request) -> None:
        # What every round adds to is looked up once.
        labels = self._of.labels
        self._language = labels.language(request.language)
        self.drafts_with(request.drafting.name)
        self._tenant_tokens = self._total(metrics.TENANT_OUTPUT_TOKENS, self._tenant)
        self._total(metrics.PROMPT_TOKENS, self._language).value += len(request.prompt_ids)
        self._total(metrics.TENANT_PROMPT_TOKENS, self._tenant).value += len(request.prompt_ids)

    def drafts_with(self, drafter: str | None) -> None:
        self._drafter = self._of.labels.drafter(drafter)
        total = self._total
        by = (self._language, self._drafter)
        self._rounds = total(metrics.ROUNDS, *by)
        self._drafted = total(metrics.DRAFTED_TOKENS, *by)
        self._accepted = total(metrics.ACCEPTED_TOKENS, *by)
        self._tokens = total(metrics.OUTPUT_TOKENS, *by)
        self._between = self._observations(metrics.BETWEEN_TOKENS, *by)

    def opened(self, tier: str, replica_id: str) -> None:
        """Replicas are no labels here: their own metrics name them."""

    def committed(self, verdict: Verdict, *, is_prefill: bool) -> None:
        if not is_prefill:
            self._rounds.value += 1
            self._drafted.value += verdict.num_drafted
            self._accepted.value += verdict.num_accepted

    def lost(self, tier: str, replica_id: str) -> None:
        if tier == "target":
            self._total(metrics.FAILOVERS, self._language).value += 1
        else:
            self._total(metrics.LOST_DRAFTERS, self._drafter).value += 1

    def wrote(self, event: Event) -> None:
        if isinstance(event, Chunk):
            self._wrote_tokens(len(event.token_ids))
        elif isinstance(event, Finished):
            reason = event.finish_reason.value
            self._total(metrics.ANSWERS, self._language, self._drafter, reason).value += 1

    def _wrote_tokens(self, num_tokens: int) -> None:
        if num_tokens == 0:
            return
        now_s = self._of.now()
        if self._last_s is not None:
            self._between.observe((now_s - self._last_s) / num_tokens)
        else:
            waited_s = now_s - self._begun_s
            self._observations(metrics.FIRST_TOKEN, self._language, self._drafter).observe(waited_s)
            self._observations(metrics.TENANT_FIRST_TOKEN, self._tenant).observe(waited_s)
        self._last_s = now_s
        self._tokens.value += num_tokens
        self._tenant_tokens.value += num_tokens

    def ended(self, code: str) -> None:
        self._open.value -= 1
        self._total(metrics.CALLS, self._tenant, self._language, code).value += 1
