"""What a cluster does now, for people: one picture of `polydraft top`."""

from __future__ import annotations

import time

from cluster.live_figures import LiveFigures
from cluster.tables import number, or_nothing, share, table


def picture(cluster: str, now: LiveFigures) -> str:
    """One screen."""
    head = (
        f"{cluster}  {time.strftime('%H:%M:%S')}   {number(now.tokens_per_s)} tokens/s   "
        f"{number(now.calls_per_s, 1)} calls/s   {number(now.failed_per_s, 1)} failed/s   "
        f"{number(now.open_streams)} open"
    )
    tables = [_tiers(now), _languages(now), _tenants(now)]
    return "\n\n".join([head, *now.missing, *filter(None, tables)])


def _tiers(now: LiveFigures) -> str:
    rows = [
        (
            one.tier,
            str(len(one.replicas)),
            number(one.load.sessions),
            or_nothing(number, one.load.queue),
            or_nothing(share, one.load.kv_held),
            or_nothing(share, one.load.waiting),
            f"{number(one.load.speed)} {one.unit}",
        )
        for one in now.tiers
    ]
    return table(("tier", "replicas", "sessions", "queue", "KV held", "waits", "speed"), rows)


def _languages(now: LiveFigures) -> str:
    rows = [
        (
            one.language,
            number(one.tokens_per_s),
            or_nothing(lambda ratio: number(ratio, 2), one.tokens_per_round),
            or_nothing(share, one.acceptance),
            or_nothing(lambda seconds: number(1_000 * seconds), one.first_token_s),
        )
        for one in now.languages
    ]
    return table(("language", "tokens/s", "tokens/round", "acceptance", "first token ms"), rows) if rows else ""


def _tenants(now: LiveFigures) -> str:
    rows = [
        (
            one.tenant,
            number(one.tokens_per_s),
            number(one.calls_per_s, 1),
            number(one.open_streams),
            number(one.limits_per_s, 1),
        )
        for one in now.tenants
    ]
    return table(("tenant", "tokens/s", "calls/s", "open", "limits/s"), rows) if rows else ""
