"""What a cluster does now, by tier, language and tenant: what `polydraft top` and the console show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cluster import catalogue as metrics
from cluster.status import ROUTER, TARGET, Figures, Replicas, ReplicaStatus, missing


@dataclass(frozen=True, slots=True)
class Load:
    """Of a replica, or of all of a tier. None: nothing to tell."""

    sessions: float
    speed: float
    """Tokens a second; of drafters, blocks a second."""
    queue: float | None = None
    """Sequences that wait for a place."""
    kv_held: float | None = None
    """Share of the KV pages."""
    waiting: float | None = None
    """Share of the time that the engine stood still although a sequence was there."""


@dataclass(frozen=True, slots=True)
class ReplicaFigures:
    """One replica."""

    replica: str
    load: Load


@dataclass(frozen=True, slots=True)
class TierFigures:
    """One deployment."""

    tier: str
    unit: str
    """Of its speed."""
    load: Load
    replicas: tuple[ReplicaFigures, ...]


@dataclass(frozen=True, slots=True)
class LanguageFigures:
    """What callers of one language feel. None: nothing to divide by."""

    language: str
    tokens_per_s: float
    tokens_per_round: float | None
    acceptance: float | None
    first_token_s: float | None
    """Mean."""


@dataclass(frozen=True, slots=True)
class TenantFigures:
    """What one tenant asks for."""

    tenant: str
    tokens_per_s: float
    calls_per_s: float
    open_streams: float
    limits_per_s: float
    """Refusals, and pauses of answers, at one of its limits."""


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """All of it."""

    tokens_per_s: float
    calls_per_s: float
    failed_per_s: float
    open_streams: float
    missing: tuple[str, ...]
    """What is not whole, a sentence each."""
    tiers: tuple[TierFigures, ...]
    languages: tuple[LanguageFigures, ...]
    tenants: tuple[TenantFigures, ...]


def live_figures(replicas: Replicas) -> LiveFigures:
    """Counters of `replicas` are a second already, as `cluster.status.rates` makes them."""
    figures = Figures(replicas)
    calls = figures.total(metrics.CALLS)
    answered = figures.total(metrics.CALLS, code="OK") + figures.total(metrics.CALLS, code="CANCELLED")
    busy = {*figures.values_of(metrics.CALLS, "tenant"), *figures.values_of(metrics.OPEN_STREAMS, "tenant")}
    names = sorted({one.name for one in replicas}, key=lambda name: (name != ROUTER, name != TARGET, name))
    return LiveFigures(
        tokens_per_s=figures.total(metrics.OUTPUT_TOKENS),
        calls_per_s=calls,
        failed_per_s=calls - answered,
        open_streams=figures.total(metrics.OPEN_STREAMS),
        missing=tuple(missing(replicas)),
        tiers=tuple(_tier(name, [one for one in replicas if one.name == name]) for name in names),
        languages=tuple(_language(figures, tag) for tag in figures.values_of(metrics.ROUNDS, "language")),
        tenants=tuple(_tenant(figures, name) for name in sorted(busy)),
    )


def of_tenant(replicas: Replicas, tenant: str) -> TenantFigures:
    """Its own alone, be they all 0."""
    return _tenant(Figures(replicas), tenant)


def _tier(name: str, replicas: Sequence[ReplicaStatus]) -> TierFigures:
    each = sorted(
        (ReplicaFigures(one.replica_id, load_of(name, [one])) for one in replicas), key=lambda one: one.replica
    )
    unit = "tokens/s" if name in (ROUTER, TARGET) else "blocks/s"
    return TierFigures(name, unit, load_of(name, replicas), tuple(each))


def load_of(tier: str, replicas: Replicas) -> Load:
    """Of these replicas of a tier."""
    figures = Figures(replicas)
    if tier == ROUTER:
        return Load(figures.total(metrics.OPEN_STREAMS), figures.total(metrics.OUTPUT_TOKENS))
    if tier != TARGET:
        return Load(figures.total(metrics.DRAFTER_SESSIONS), figures.total(metrics.BLOCKS))
    waiting, pages = figures.total(metrics.WAITING), figures.total(metrics.KV_PAGES)
    load = Load(figures.total(metrics.TARGET_SESSIONS), figures.total(metrics.COMMITTED_TOKENS))
    return replace(
        load,
        queue=figures.total(metrics.QUEUED_SEQUENCES),
        kv_held=_divided(pages - figures.total(metrics.KV_FREE_PAGES), pages),
        waiting=_divided(waiting, waiting + figures.total(metrics.STEPPING)),
    )


def _language(figures: Figures, language: str) -> LanguageFigures:
    tokens, rounds, drafted, accepted = (
        figures.total(metric, language=language)
        for metric in (metrics.OUTPUT_TOKENS, metrics.ROUNDS, metrics.DRAFTED_TOKENS, metrics.ACCEPTED_TOKENS)
    )
    first_s = figures.total(metrics.FIRST_TOKEN, "_sum", language=language)
    firsts = figures.total(metrics.FIRST_TOKEN, "_count", language=language)
    return LanguageFigures(
        language, tokens, _divided(tokens, rounds), _divided(accepted, drafted), _divided(first_s, firsts)
    )


def _tenant(figures: Figures, tenant: str) -> TenantFigures:
    return TenantFigures(
        tenant,
        figures.total(metrics.TENANT_OUTPUT_TOKENS, tenant=tenant),
        figures.total(metrics.CALLS, tenant=tenant),
        figures.total(metrics.OPEN_STREAMS, tenant=tenant),
        figures.total(metrics.LIMITS_HIT, tenant=tenant),
    )


def _divided(value: float, by: float) -> float | None:
    return value / by if by else None
