"""Every metric, declared once: what it is called, what it counts, and which labels it has.

Ray exports each as `ray_<name>` at every node's metrics port and adds labels of its own, among them Serve's
`deployment` and `replica`. Names follow Prometheus: base units, and counters end in `_total`. Labels are bounded:
tenants, languages and drafters are those of the configuration, see `cluster.labels`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

PREFIX = "polydraft_"
EXPORTED_PREFIX = "ray_"


class Kind(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. Counters never fall while a process lives; gauges are told anew with each report."""

    name: str
    kind: Kind
    tier: str
    """Who counts it: "router", "target", "drafter" or "trainer"."""
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    """Of a histogram: upper bounds, in the unit that the name ends with."""

    @property
    def exported(self) -> str:
        """As Prometheus sees it; a histogram has `_bucket`, `_sum` and `_count` behind."""
        return EXPORTED_PREFIX + self.name


CATALOGUE: dict[str, Metric] = {}
"""By name."""


def _declare(metric: Metric) -> Metric:
    assert metric.name not in CATALOGUE, metric.name
    CATALOGUE[metric.name] = metric
    return metric


def _counter(tier: str, name: str, labels: tuple[str, ...], help: str) -> Metric:
    return _declare(Metric(f"{PREFIX}{name}_total", Kind.COUNTER, tier, labels, help))


def _gauge(tier: str, name: str, labels: tuple[str, ...], help: str) -> Metric:
    return _declare(Metric(PREFIX + name, Kind.GAUGE, tier, labels, help))


def _seconds(tier: str, name: str, labels: tuple[str, ...], buckets: tuple[float, ...], help: str) -> Metric:
    return _declare(Metric(f"{PREFIX}{name}_seconds", Kind.HISTOGRAM, tier, labels, help, buckets))


_FIRST = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BETWEEN = (0.0005, 0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_STEP = (0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.024, 0.032, 0.05, 0.075, 0.1, 0.25, 1.0)
_BY = ("language", "drafter")

# -- routers: what callers feel -------------------------------------------------------------------------------------

CALLS = _counter("router", "calls", ("tenant", "language", "code"), "Calls that ended; code is OK or the error's name.")
ANSWERS = _counter("router", "answers", (*_BY, "finish_reason"), "Whole answers, by why they ended.")
OUTPUT_TOKENS = _counter("router", "output_tokens", _BY, "Tokens sent to callers.")
ROUNDS = _counter("router", "rounds", _BY, "Verdicts of the target behind the prefill's own.")
DRAFTED_TOKENS = _counter("router", "drafted_tokens", _BY, "Nodes of the drafts that were verified.")
ACCEPTED_TOKENS = _counter("router", "accepted_tokens", _BY, "Drafted tokens that the target chose too.")
PROMPT_TOKENS = _counter("router", "prompt_tokens", ("language",), "Prompt tokens of calls that were let in.")
TENANT_OUTPUT_TOKENS = _counter("router", "tenant_output_tokens", ("tenant",), "Tokens sent to a tenant's callers.")
TENANT_PROMPT_TOKENS = _counter("router", "tenant_prompt_tokens", ("tenant",), "Prompt tokens of a tenant's calls.")
LIMITS_HIT = _counter("router", "limits_hit", ("tenant", "limit"), "Refusals, and pauses of answers, at a limit.")
FAILOVERS = _counter("router", "failovers", ("language",), "Target replicas lost under an answer that then went on.")
LOST_DRAFTERS = _counter("router", "lost_drafters", ("drafter",), "Drafter replicas lost under an answer.")
FIRST_TOKEN = _seconds(
    "router", "time_to_first_token", _BY, _FIRST, "From a call's arrival at the router to its first token."
)
TENANT_FIRST_TOKEN = _seconds(
    "router", "tenant_time_to_first_token", ("tenant",), _FIRST, "The same, by tenant instead of language."
)
BETWEEN_TOKENS = _seconds(
    "router", "time_between_tokens", _BY, _BETWEEN, "Since an answer's last chunk, for each token of a chunk."
)
OPEN_STREAMS = _gauge("router", "open_streams", ("tenant",), "Calls that run.")
MAX_STREAMS = _gauge("router", "max_streams", (), "Calls that a router takes at once.")
CONNECTED = _gauge("router", "connected_replicas", ("peer",), "Replicas that a router can open sessions at.")
CERTIFICATE_EXPIRY = _gauge(
    "router", "certificate_expiry_timestamp_seconds", ("section",), "Unix time when a certificate of `tls` expires."
)

# -- targets: the engine --------------------------------------------------------------------------------------------

STEP = _seconds("target", "step", (), _STEP, "One step of the engine.")
STEPPING = _counter("target", "stepping_seconds", (), "Time spent in steps.")
WAITING = _counter("target", "waiting_seconds", (), "Time that the engine stood still although a sequence was there.")
COMMITTED_TOKENS = _counter("target", "committed_tokens", (), "Tokens that the engine committed.")
DRAFTED_ROUNDS = _counter("target", "drafted_rounds", ("drafter",), "Verified rounds that had a draft.")
OFFSETS_COMPARED = _counter(
    "target", "draft_offsets_compared", ("drafter", "offset"), "Rounds whose walk came to a drafted token so deep."
)
OFFSETS_ACCEPTED = _counter(
    "target", "draft_offsets_accepted", ("drafter", "offset"), "Of these, the ones where the target chose it too."
)
LATE_DRAFTS = _counter("target", "late_drafts", ("drafter",), "Rounds that ran undrafted: their block came too late.")
STALE_DRAFTS = _counter("target", "stale_drafts", (), "Blocks dropped: they build on another sequence or hold no tree.")
LENGTH_CHOICES = _counter(
    "target", "draft_length_choices", ("nodes",), "How often blocks of that size were asked for (0: plain)."
)
PREFIX_HIT_TOKENS = _counter("target", "prefix_hit_tokens", (), "Tokens whose KV was found in shared pages.")
PREEMPTIONS = _counter("target", "preemptions", (), "Sequences that lost their pages and were computed again.")
FAILED_SEQUENCES = _counter("target", "failed_sequences", (), "Sequences for which the model gave no numbers.")
TARGET_SESSIONS = _gauge("target", "target_sessions", (), "Sessions open at a target replica.")
QUEUED_SEQUENCES = _gauge("target", "queued_sequences", (), "Sequences that wait for a place or for pages.")
KV_PAGES = _gauge("target", "kv_pages", (), "Pages of KV that a replica has.")
KV_FREE_PAGES = _gauge("target", "kv_free_pages", (), "Of these, those that no sequence holds.")
DRAFTING = _gauge("target", "asks_for_drafts", (), "1 while drafts pay, 0 while the target decodes plainly.")

# -- drafters and their trainers ------------------------------------------------------------------------------------

TURN = _seconds("drafter", "drafter_turn", ("drafter",), _STEP, "One turn of a drafter: a block for all who wait.")
BLOCKS = _counter("drafter", "drafter_blocks", ("drafter",), "Blocks sent.")
DRAFTER_SESSIONS = _gauge("drafter", "drafter_sessions", ("drafter",), "Sessions open at a drafter replica.")
ANSWERS_UNLEARNED = _counter("drafter", "answers_unlearned", ("drafter",), "Answers that did not reach the trainer.")

_LEARNS = ("drafter", "tenant")
CORRECTIONS_BUFFERED = _counter("trainer", "corrections_buffered", _LEARNS, "Overruled places to be learned from.")
CORRECTIONS_DROPPED = _counter("trainer", "corrections_dropped", _LEARNS, "Of these, those that went for newer ones.")
DRAFTER_UPDATES = _counter("trainer", "drafter_updates", _LEARNS, "Steps of a shadow.")
DRAFTER_PROMOTIONS = _counter("trainer", "drafter_promotions", _LEARNS, "Versions that became current.")
DRAFTER_REFUSALS = _counter("trainer", "drafter_refusals", _LEARNS, "Shadows that were thrown away.")


def markdown() -> str:
    """The catalogue as the table of the docs."""
    rows = [
        f"| `{one.name}` | {one.kind.value} | {one.tier} | {', '.join(one.labels)} | {one.help} |"
        for one in CATALOGUE.values()
    ]
    return "\n".join(["| metric | kind | counted by | labels | meaning |", "|---|---|---|---|---|", *rows]) + "\n"
