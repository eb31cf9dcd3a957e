"""The processes of a cluster on this machine, by kind: whom to kill, and who is there again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.config import Config
from deployments.directory import drafter_deployment_name
from deployments.processes import Process, descendants

ALL_KINDS = ("router", "drafter", "target", "controller", "directory", "proxy")


@dataclass(frozen=True, slots=True)
class Kind:
    """Processes that do the same."""

    titles: Sequence[str]
    """What Ray calls them; one title a deployment."""
    count: int
    """How many of them there are when all are ready."""


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
    """Those of a kind that are up, among the processes that this one started.

    While a replica is made its title goes on with ".initialize_and_get_metadata", so equality means ready.
    """
    return [process for process in descendants(os.getpid()) if process.title in kind.titles]


def _replica(application: str, deployment: str) -> str:
    return f"ray::ServeReplica:{application}:{deployment}"
