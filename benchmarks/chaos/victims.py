"""The processes of a cluster on this machine, by kind: whom to kill, and who is there again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.config import Config
from deployments.directory import drafter_deployment_name
from deployments.processes import Process, descendants

_REPLICA = "ray::ServeReplica:"
_INITIALIZE = "initialize_and_get_metadata"
_MAKING = ("__init__", "is_allocated", _INITIALIZE)
"""What a replica's title goes on with while it is made; later that is what it does at the moment, as a health check."""
ALL_KINDS = ("router", "drafter", "target", "shard", "controller", "directory", "proxy")


@dataclass(frozen=True, slots=True)
class Kind:
    """Processes that do the same."""

    titles: Sequence[str]
    """What Ray calls them; one title a deployment."""
    count: int
    """How many of them there are when all are ready."""
    struck_by: str = ""
    """Whom to strike instead, by title: the loss of one of these takes one of the kind along."""

    @property
    def are_replicas(self) -> bool:
        """Serve makes them, in steps."""
        return self.titles[0].startswith(_REPLICA)

    def includes(self, title: str) -> bool:
        """Whether a process with this title is one that is up."""
        name, _, doing = title.partition(".")
        return name in self.titles and doing not in _MAKING


def kinds_of(config: Config) -> Mapping[str, Kind]:
    """Whose loss a cluster of this configuration must survive."""
    application = config.cluster.name
    drafters = [drafter_deployment_name(name) for name in config.tier_drafters]
    kinds = {
        "router": Kind([_replica(application, "router")], config.cluster.routers),
        "target": Kind([_replica(application, "target")], config.target.replicas),
        "controller": Kind(["ray::ServeController"], 1),
        "directory": Kind(["ray::Directory"], 1),
    }
    if config.target.shards > 1:
        kinds["shard"] = replace(kinds["target"], struck_by="ray::TargetShard")
    if drafters:
        count = sum(drafter.replicas for drafter in config.tier_drafters.values())
        kinds["drafter"] = Kind([_replica(application, name) for name in drafters], count)
    if config.cluster.front == "serve":
        kinds["proxy"] = Kind(["ray::ProxyActor"], 1)
    return kinds


def ready(kind: Kind) -> list[Process]:
    """Those of a kind that are up, among the processes that this one started."""
    return [process for process in descendants(os.getpid()) if kind.includes(process.title)]


def candidates(kind: Kind) -> list[Process]:
    """Whom a fault of that kind may strike."""
    if not kind.struck_by:
        return ready(kind)
    return [process for process in descendants(os.getpid()) if process.title.startswith(kind.struck_by)]


class Replacements:
    """Who of a kind is up after a fault. Look often: of a new replica it must have been seen how it was made.

    Between the steps of making a replica, half a second and sometimes longer, its title is that of one that is up.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._made = set(ready(kind))

    def look(self) -> list[Process]:
        """Those that are up now."""
        for process in descendants(os.getpid()):
            name, _, doing = process.title.partition(".")
            if name in self._kind.titles and (doing == _INITIALIZE or not self._kind.are_replicas):
                self._made.add(process)
        return [process for process in ready(self._kind) if process in self._made]


def _replica(application: str, deployment: str) -> str:
    return f"{_REPLICA}{application}:{deployment}"
