"""The processes of a cluster on this machine, by kind: whom to kill, and who is there again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.config import Config
from deployments.directory import drafter_deployment_name
from deployments.processes import Process, descendants

_MAKING = ("__init__", "is_allocated", "initialize_and_get_metadata")
"""What a replica's title goes on with while it is made; later that is what it does at the moment, as a health check."""
ALL_KINDS = ("router", "drafter", "target", "controller", "directory", "proxy")


@dataclass(frozen=True, slots=True)
class Kind:
    """Processes that do the same."""

    titles: Sequence[str]
    """What Ray calls them; one title a deployment."""
    count: int
    """How many of them there are when all are ready."""

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
    if drafters:
        count = sum(drafter.replicas for drafter in config.tier_drafters.values())
        kinds["drafter"] = Kind([_replica(application, name) for name in drafters], count)
    if config.cluster.front == "serve":
        kinds["proxy"] = Kind(["ray::ProxyActor"], 1)
    return kinds


def ready(kind: Kind) -> list[Process]:
    """Those of a kind that are up, among the processes that this one started."""
    return [process for process in descendants(os.getpid()) if kind.includes(process.title)]


def _replica(application: str, deployment: str) -> str:
    return f"ray::ServeReplica:{application}:{deployment}"
