"""The dashboards: overview, tiers, languages and drafters, tenants.

Ray's dashboard shows panels of Grafana by dashboard and number: on its Serve page 7, 8 and 15 of one dashboard, on the
page of a deployment 2, 3 and 5 of another. Panels that answer those questions for us have these numbers, see
docs/observability.md.
"""

from __future__ import annotations

from cluster import catalogue as m
from cluster.dashboards.panels import Dashboard, Panel, Query
from cluster.dashboards.queries import increase, now, quantile, rate_of, share

_FAILED = 'code!~"OK|CANCELLED"'

_FIRST_TOKEN = Panel(
    "Time to first token",
    "From a call's arrival at a router to its first token, over all languages.",
    "s",
    tuple(Query(quantile(q, m.FIRST_TOKEN), f"p{100 * q:g}") for q in (0.5, 0.95, 0.99)),
    id=15,
)
_STEP_SHARES = Panel(
    "Where the target's time goes",
    "Share of one second spent in steps, and share spent waiting for blocks while sequences were there.",
    "percentunit",
    (
        Query(increase(m.STEPPING, "replica"), "{{replica}} stepping"),
        Query(increase(m.WAITING, "replica"), "{{replica}} waiting"),
    ),
    id=5,
    most=1.0,
)

OVERVIEW = Dashboard(
    "polydraft-overview",
    "Polydraft: overview",
    (
        Panel("Tokens a second", "Sent to callers.", "short", (Query(increase(m.OUTPUT_TOKENS)),), "stat", 4),
        Panel("Open streams", "Calls that run now.", "short", (Query(now(m.OPEN_STREAMS)),), "stat", 4),
        Panel(
            "Tokens a round",
            "Tokens for each verdict of the target; 1 is plain decoding.",
            "short",
            (Query(share(m.OUTPUT_TOKENS, m.ROUNDS)),),
            "stat",
            4,
        ),
        Panel(
            "Acceptance",
            "Accepted nodes over drafted ones.",
            "percentunit",
            (Query(share(m.ACCEPTED_TOKENS, m.DRAFTED_TOKENS)),),
            "stat",
            4,
        ),
        Panel("KV pages free", "At all targets.", "short", (Query(now(m.KV_FREE_PAGES)),), "stat", 4),
        Panel(
            "Target replicas",
            "As routers see them.",
            "short",
            (Query(now(m.CONNECTED, "peer", over="min")),),
            "stat",
            4,
        ),
        Panel(
            "Tokens a second by language",
            "Sent to callers, by the input's language.",
            "short",
            (Query(increase(m.OUTPUT_TOKENS, "language"), "{{language}}"),),
            id=7,
        ),
        Panel(
            "Calls that failed",
            "A second, by error code. Calls that callers gave up are not among them.",
            "reqps",
            (Query(increase(m.CALLS, "code", where=_FAILED), "{{code}}"),),
            id=8,
        ),
        _FIRST_TOKEN,
        Panel(
            "Time between tokens",
            "Since an answer's last chunk, for each token of a chunk.",
            "s",
            tuple(Query(quantile(q, m.BETWEEN_TOKENS), f"p{100 * q:g}") for q in (0.5, 0.95, 0.99)),
        ),
        Panel("Calls", "A second, by code.", "reqps", (Query(increase(m.CALLS, "code"), "{{code}}"),)),
        Panel(
            "Losses",
            "Target and drafter replicas lost under answers, a second.",
            "short",
            (
                Query(increase(m.FAILOVERS), "targets"),
                Query(increase(m.LOST_DRAFTERS, "drafter"), "drafter {{drafter}}"),
            ),
        ),
    ),
)

TIERS = Dashboard(
    "polydraft-tiers",
    "Polydraft: tiers",
    (
        Panel(
            "Tokens a second by target",
            "Committed by each replica's engine.",
            "short",
            (Query(increase(m.COMMITTED_TOKENS, "replica"), "{{replica}}"),),
            id=2,
        ),
        Panel(
            "Failed and preempted sequences",
            "A second. Failed: the model gave no numbers. Preempted: pages ran out, computed again later.",
            "short",
            (
                Query(increase(m.FAILED_SEQUENCES, "replica"), "{{replica}} failed"),
                Query(increase(m.PREEMPTIONS, "replica"), "{{replica}} preempted"),
            ),
            id=3,
        ),
        _STEP_SHARES,
        Panel(
            "Step time",
            "Of the target's engine.",
            "s",
            tuple(Query(quantile(q, m.STEP), f"p{100 * q:g}") for q in (0.5, 0.95, 0.99)),
        ),
        Panel("Steps a second", "By replica.", "short", (Query(rate_of(m.STEP, "replica"), "{{replica}}"),)),
        Panel(
            "KV occupancy",
            "Pages held by sequences, of all.",
            "percentunit",
            (Query(f"1 - {now(m.KV_FREE_PAGES, 'replica')} / {now(m.KV_PAGES, 'replica')}", "{{replica}}"),),
            most=1.0,
        ),
        Panel(
            "Queue",
            "Sequences that wait for a place or for pages, and all sessions.",
            "short",
            (
                Query(now(m.QUEUED_SEQUENCES, "replica"), "{{replica}} waiting"),
                Query(now(m.TARGET_SESSIONS, "replica"), "{{replica}} sessions"),
            ),
        ),
        Panel(
            "Prefix hits",
            "Tokens a second whose KV was found instead of computed.",
            "short",
            (Query(increase(m.PREFIX_HIT_TOKENS, "replica"), "{{replica}}"),),
        ),
        Panel(
            "Does the target ask for drafts?",
            "1 while drafts pay, 0 while it decodes plainly.",
            "short",
            (Query(now(m.DRAFTING, "replica", over="max"), "{{replica}}"),),
            most=1.0,
        ),
        Panel(
            "Replicas that routers can reach",
            "The router that sees fewest.",
            "short",
            (Query(now(m.CONNECTED, "peer", over="min"), "{{peer}}"),),
        ),
        Panel(
            "Drafter sessions",
            "Open at each drafter's replicas.",
            "short",
            (Query(now(m.DRAFTER_SESSIONS, "drafter"), "{{drafter}}"),),
        ),
        Panel(
            "Drafter turns, p95",
            "Time of one turn: a block for all who wait.",
            "s",
            (Query(quantile(0.95, m.TURN, "drafter"), "{{drafter}}"),),
        ),
        Panel(
            "Blocks a second",
            "Sent by drafters, and dropped by targets.",
            "short",
            (Query(increase(m.BLOCKS, "drafter"), "{{drafter}}"), Query(increase(m.STALE_DRAFTS), "dropped")),
        ),
        Panel(
            "Streams of routers",
            "Open, and the most that a router takes.",
            "short",
            (
                Query(now(m.OPEN_STREAMS, "replica"), "{{replica}}"),
                Query(now(m.MAX_STREAMS, over="min"), "most of a router"),
            ),
        ),
    ),
)

LANGUAGES = Dashboard(
    "polydraft-languages",
    "Polydraft: languages and drafters",
    (
        Panel(
            "Tokens a round",
            "By language and drafter; 1 is plain decoding.",
            "short",
            (Query(share(m.OUTPUT_TOKENS, m.ROUNDS, "language", "drafter"), "{{language}} by {{drafter}}"),),
        ),
        Panel(
            "Acceptance",
            "Accepted nodes over drafted ones.",
            "percentunit",
            (Query(share(m.ACCEPTED_TOKENS, m.DRAFTED_TOKENS, "language", "drafter"), "{{language}} by {{drafter}}"),),
            most=1.0,
        ),
        Panel(
            "Acceptance by offset",
            "Of the walks that came to a draft's n-th token, the share that went on.",
            "percentunit",
            (Query(share(m.OFFSETS_ACCEPTED, m.OFFSETS_COMPARED, "drafter", "offset"), "{{drafter}} {{offset}}"),),
            most=1.0,
        ),
        Panel(
            "Chosen draft length",
            "How often blocks of so many nodes are asked for, a second; 0: none.",
            "short",
            (Query(increase(m.LENGTH_CHOICES, "nodes"), "{{nodes}}"),),
        ),
        Panel(
            "Late drafts",
            "Of a drafter's rounds, the share that ran undrafted because the block came too late.",
            "percentunit",
            (
                Query(
                    f"{increase(m.LATE_DRAFTS, 'drafter')} / "
                    f"({increase(m.LATE_DRAFTS, 'drafter')} + {increase(m.DRAFTED_ROUNDS, 'drafter')})",
                    "{{drafter}}",
                ),
            ),
            most=1.0,
        ),
        Panel(
            "Calls a second",
            "By language.",
            "reqps",
            (Query(increase(m.CALLS, "language"), "{{language}}"),),
        ),
        Panel(
            "Time to first token, p95",
            "By language.",
            "s",
            (Query(quantile(0.95, m.FIRST_TOKEN, "language"), "{{language}}"),),
        ),
        Panel(
            "Time between tokens, p95",
            "By language.",
            "s",
            (Query(quantile(0.95, m.BETWEEN_TOKENS, "language"), "{{language}}"),),
        ),
        Panel(
            "Answers",
            "A second, by why they ended.",
            "short",
            (Query(increase(m.ANSWERS, "finish_reason"), "{{finish_reason}}"),),
        ),
        Panel(
            "Prompt tokens a second",
            "By language.",
            "short",
            (Query(increase(m.PROMPT_TOKENS, "language"), "{{language}}"),),
        ),
    ),
)

TENANTS = Dashboard(
    "polydraft-tenants",
    "Polydraft: tenants",
    (
        Panel("Tokens a second", "Sent.", "short", (Query(increase(m.TENANT_OUTPUT_TOKENS, "tenant"), "{{tenant}}"),)),
        Panel(
            "Prompt tokens a second",
            "Read.",
            "short",
            (Query(increase(m.TENANT_PROMPT_TOKENS, "tenant"), "{{tenant}}"),),
        ),
        Panel("Open streams", "At all routers.", "short", (Query(now(m.OPEN_STREAMS, "tenant"), "{{tenant}}"),)),
        Panel(
            "Limits hit",
            "Refusals and pauses a second, by the limit.",
            "short",
            (Query(increase(m.LIMITS_HIT, "tenant", "limit"), "{{tenant}} {{limit}}"),),
        ),
        Panel(
            "Time to first token, p95",
            "By tenant.",
            "s",
            (Query(quantile(0.95, m.TENANT_FIRST_TOKEN, "tenant"), "{{tenant}}"),),
        ),
        Panel(
            "Calls that failed",
            "A second, by tenant and code.",
            "reqps",
            (Query(increase(m.CALLS, "tenant", "code", where=_FAILED), "{{tenant}} {{code}}"),),
        ),
    ),
)

DASHBOARDS = (OVERVIEW, TIERS, LANGUAGES, TENANTS)
