"""What replicas tell of themselves once a second, and what operators read from it: `polydraft status` and `top`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version

from cluster import catalogue as metrics
from cluster.catalogue import CATALOGUE, Metric
from cluster.measures import Labelled, Sample

TARGET, ROUTER = "target", "router"


VERSION = version("polydraft")


@dataclass(frozen=True, slots=True)
class Report:
    """One replica's own word."""

    started_at: float
    """Unix time."""
    samples: tuple[Sample, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    """Of a router "language de" and the drafter that serves it; of a drafter "version acme" and the version of its
    weights that the tenant gets."""
    version: str = VERSION
    """Of Polydraft."""


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """A replica that is registered, and its last report."""

    kind: str
    name: str
    """Of the deployment."""
    replica_id: str
    address: str
    numerics_id: str
    connected: tuple[str, ...]
    """Of a router: the deployments that it can open sessions at."""
    at_s: float = 0.0
    """When the report came, by the directory's clock."""
    report: Report | None = None
    """None: none has come yet."""


Replicas = Sequence[ReplicaStatus]


class Figures:
    """Sums over the reports of all replicas."""

    def __init__(self, replicas: Replicas) -> None:
        self._values: dict[str, dict[Labelled, float]] = {}
        for replica in replicas:
            for name, labels, value in replica.report.samples if replica.report else ():
                sums = self._values.setdefault(name, {})
                sums[labels] = sums.get(labels, 0.0) + value

    def total(self, metric: Metric, suffix: str = "", **where: str) -> float:
        """Of the series with these labels. Of a histogram: `_count` or `_sum`."""
        found = self._values.get(metric.name + suffix, {})
        wanted = [(metric.labels.index(label), value) for label, value in where.items()]
        return sum(value for labels, value in found.items() if all(labels[index] == name for index, name in wanted))

    def values_of(self, metric: Metric, label: str) -> list[str]:
        """Which values a label has, where anything was counted."""
        found = self._values.get(metric.name, {})
        index = metric.labels.index(label)
        return sorted({labels[index] for labels in found})


def rates(before: Replicas, after: Replicas) -> Replicas:
    """`after` with counters a second since `before`; gauges stay. Replicas that are new count from their start."""
    earlier = {replica.replica_id: replica for replica in before}
    return [_rates(earlier.get(replica.replica_id), replica) for replica in after]


def _rates(before: ReplicaStatus | None, after: ReplicaStatus) -> ReplicaStatus:
    if after.report is None or before is None or before.report is None or after.at_s <= before.at_s:
        return _with_samples(after, lambda name, labels, value: 0.0)
    told = {(name, labels): value for name, labels, value in before.report.samples}
    elapsed_s = after.at_s - before.at_s
    return _with_samples(after, lambda name, labels, value: max(value - told.get((name, labels), 0.0), 0.0) / elapsed_s)


def _with_samples(replica: ReplicaStatus, change: Callable[[str, Labelled, float], float]) -> ReplicaStatus:
    if replica.report is None:
        return replica
    samples = tuple(
        (name, labels, value if _is_gauge(name) else change(name, labels, value))
        for name, labels, value in replica.report.samples
    )
    return replace(replica, report=replace(replica.report, samples=samples))


def _is_gauge(name: str) -> bool:
    return name in CATALOGUE and not name.endswith("_total")


def missing(replicas: Replicas) -> list[str]:
    """What is not whole, a sentence each; empty: everything that the configuration names can be reached."""
    routers = [replica for replica in replicas if replica.kind == ROUTER]
    if not routers:
        return ["no router is up"]
    found = []
    for router in routers:
        if router.report is None:
            found.append(f"{router.replica_id} has not reported yet")
            continue
        figures = Figures([router])
        for name in (labels[0] for metric, labels, _ in router.report.samples if metric == metrics.CONNECTED.name):
            if figures.total(metrics.CONNECTED, peer=name) == 0:
                found.append(f"{router.replica_id} reaches no replica of {name}")
    numerics = {replica.numerics_id for replica in replicas if replica.kind == TARGET}
    if len(numerics) > 1:
        found.append(f"targets have {len(numerics)} numerics ids: answers cannot move between all of them")
    return found


def languages(replicas: Replicas) -> dict[str, str]:
    """By language, the drafters that serve it; empty where none does."""
    return {
        fact.removeprefix("language "): name
        for replica in replicas
        if replica.report is not None
        for fact, name in replica.report.facts.items()
        if fact.startswith("language ")
    }
