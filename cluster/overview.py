"""How a cluster is at one look, for people: what `polydraft status` prints."""

from __future__ import annotations

from cluster import catalogue as metrics
from cluster.live_figures import load_of
from cluster.status import ROUTER, TARGET, Figures, Replicas, languages, missing
from cluster.tables import number, or_nothing, share, table


def described(cluster: str, replicas: Replicas, now: float) -> str:
    """For people; `now` is Unix time."""
    versions = ", ".join(sorted({one.report.version for one in replicas if one.report is not None})) or "unknown"
    numerics = ", ".join(sorted({one.numerics_id for one in replicas if one.kind == TARGET})) or "none"
    problems = missing(replicas)
    spoken = [f"{tag} ({drafter or 'no drafter'})" for tag, drafter in languages(replicas).items()]
    parts = [
        f"cluster {cluster}: {'; '.join(problems) if problems else 'whole'}",
        f"version {versions}, numerics id {numerics}",
        f"languages: {', '.join(spoken) or 'none'}",
        "",
        _replicas_table(replicas, now),
    ]
    return "\n".join([*parts, "", tenants] if (tenants := _tenants_table(replicas)) else parts)


def _replicas_table(replicas: Replicas, now: float) -> str:
    rows = []
    for one in sorted(replicas, key=lambda one: (one.kind != ROUTER, one.kind != TARGET, one.name, one.replica_id)):
        load = load_of(one.name, [one])
        up = _duration(now - one.report.started_at) if one.report is not None else "-"
        drafts = [
            f"{key}: {value}" for key, value in (one.report.facts if one.report else {}).items() if "version" in key
        ]
        queue, kv = or_nothing(number, load.queue), or_nothing(share, load.kv_held)
        rows.append((one.name, one.replica_id, one.address, up, number(load.sessions), queue, kv, ", ".join(drafts)))
    return table(("deployment", "replica", "address", "up", "sessions", "queue", "KV held", ""), rows)


def _tenants_table(replicas: Replicas) -> str:
    """Tenants that have called, since the routers' start; empty if none has."""
    figures = Figures(replicas)
    rows = [
        (
            tenant,
            number(figures.total(metrics.OPEN_STREAMS, tenant=tenant)),
            number(figures.total(metrics.CALLS, tenant=tenant)),
            number(figures.total(metrics.CALLS, tenant=tenant, code="OK")),
            number(figures.total(metrics.TENANT_OUTPUT_TOKENS, tenant=tenant)),
            number(figures.total(metrics.LIMITS_HIT, tenant=tenant)),
        )
        for tenant in figures.values_of(metrics.CALLS, "tenant")
    ]
    return table(("tenant", "open", "calls", "whole", "tokens", "limits hit"), rows) if rows else ""


def _duration(seconds: float) -> str:
    whole = max(int(seconds), 0)
    hours, minutes = whole // 3_600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{whole} s"
