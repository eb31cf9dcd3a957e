"""What a cluster does now, for people: one picture of `polydraft top`."""

from __future__ import annotations

import time

from cluster import catalogue as metrics
from cluster.status import ROUTER, TARGET, Figures, Replicas, missing
from cluster.tables import number, ratio, share, table


def picture(cluster: str, replicas: Replicas) -> str:
    """One screen; counters of `replicas` are a second already."""

    figures = Figures(replicas)
    calls = figures.total(metrics.CALLS)
    failed = calls - figures.total(metrics.CALLS, code="OK") - figures.total(metrics.CALLS, code="CANCELLED")
    num_open = number(figures.total(metrics.OPEN_STREAMS))
    head = (
        f"{cluster}  {time.strftime('%H:%M:%S')}   {number(figures.total(metrics.OUTPUT_TOKENS))} tokens/s   "
        f"{number(calls, 1)} calls/s   {number(failed, 1)} failed/s   {num_open} open"
    )
    tables = [_tiers(replicas), _languages(figures), _tenants(figures)]
    return "\n\n".join([head, *missing(replicas), *filter(None, tables)])


def _tiers(replicas: Replicas) -> str:

    rows = []
    for name in sorted({one.name for one in replicas}, key=lambda name: (name != ROUTER, name != TARGET, name)):
        tier = [one for one in replicas if one.name == name]
        of = Figures(tier)
        sessions, speed, queue, kv, waits = of.total(metrics.DRAFTER_SESSIONS), of.total(metrics.BLOCKS), "-", "-", "-"
        if name == ROUTER:
            sessions, speed = of.total(metrics.OPEN_STREAMS), of.total(metrics.OUTPUT_TOKENS)
        elif name == TARGET:
            sessions, speed = of.total(metrics.TARGET_SESSIONS), of.total(metrics.COMMITTED_TOKENS)
            pages = of.total(metrics.KV_PAGES)
            queue, kv = (
                number(of.total(metrics.QUEUED_SEQUENCES)),
                share(pages - of.total(metrics.KV_FREE_PAGES), pages),
            )
            waits = share(of.total(metrics.WAITING), of.total(metrics.WAITING) + of.total(metrics.STEPPING))
        what = "blocks/s" if name not in (ROUTER, TARGET) else "tokens/s"
        rows.append((name, str(len(tier)), number(sessions), queue, kv, waits, f"{number(speed)} {what}"))
    return table(("tier", "replicas", "sessions", "queue", "KV held", "waits", "speed"), rows)


def _languages(figures: Figures) -> str:

    rows = []
    for language in figures.values_of(metrics.ROUNDS, "language"):
        tokens, rounds, drafted, accepted = (
            figures.total(metric, language=language)
            for metric in (metrics.OUTPUT_TOKENS, metrics.ROUNDS, metrics.DRAFTED_TOKENS, metrics.ACCEPTED_TOKENS)
        )
        first_s = figures.total(metrics.FIRST_TOKEN, "_sum", language=language)
        firsts = figures.total(metrics.FIRST_TOKEN, "_count", language=language)
        first_ms = ratio(1_000 * first_s, firsts, 0)
        rows.append((language, number(tokens), ratio(tokens, rounds), share(accepted, drafted), first_ms))
    return table(("language", "tokens/s", "tokens/round", "acceptance", "first token ms"), rows) if rows else ""


def _tenants(figures: Figures) -> str:

    busy = {*figures.values_of(metrics.CALLS, "tenant"), *figures.values_of(metrics.OPEN_STREAMS, "tenant")}
    rows = [
        (
            tenant,
            number(figures.total(metrics.TENANT_OUTPUT_TOKENS, tenant=tenant)),
            number(figures.total(metrics.CALLS, tenant=tenant), 1),
            number(figures.total(metrics.OPEN_STREAMS, tenant=tenant)),
            number(figures.total(metrics.LIMITS_HIT, tenant=tenant), 1),
        )
        for tenant in sorted(busy)
    ]
    return table(("tenant", "tokens/s", "calls/s", "open", "limits/s"), rows) if rows else ""
