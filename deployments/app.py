"""The one place where deployments get names, resources and options: `build(config) -> Application`."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import Any

from ray import serve

from cluster.config import Config
from deployments.directory import drafter_deployment_name, named_directory
from deployments.drafter import DrafterDeployment
from deployments.router import RouterDeployment
from deployments.serve_ingress import ServeIngressDeployment
from deployments.target import TargetDeployment

_EVERYWHERE: dict[str, Any] = {
    # Sessions are counted by routers and replicas; Serve's own limit must not be in the way.
    "max_ongoing_requests": 10_000,
    # A dead replica is noticed at its next health check.
    "health_check_period_s": 1.0,
    "health_check_timeout_s": 10.0,
    "graceful_shutdown_wait_loop_s": 0.1,
}
_END_S = 5.0
"""After answers have drained, for the rest of a replica's end."""


def directory_name(config: Config) -> str:
    """Name of the directory actor."""
    return named_directory(config.cluster.name)


def build(config: Config, token: str) -> serve.Application:
    """The whole application: routers in front, one target, one deployment a drafter."""
    directory, same = directory_name(config), config.without_counts()
    target = _target(config).bind(same, directory, token)
    drafters = [_drafter(config, name).bind(same, name, directory, token) for name in config.tier_drafters]
    return _router(config).bind(same, directory, token, target, *drafters)


def _router(config: Config) -> serve.Deployment:
    return _deployment(
        config,
        RouterDeployment if config.cluster.front == "grpc" else ServeIngressDeployment,
        name="router",
        num_replicas=config.cluster.routers,
        ray_actor_options={"num_cpus": config.cluster.router_num_cpus},
    )


def _target(config: Config) -> serve.Deployment:
    target = config.target
    return _deployment(
        config,
        TargetDeployment,
        name="target",
        num_replicas=target.replicas,
        ray_actor_options={"num_cpus": target.num_cpus, "num_gpus": target.num_gpus},
    )


def _drafter(config: Config, name: str) -> serve.Deployment:
    drafter = config.drafters[name]
    return _deployment(
        config,
        DrafterDeployment,
        name=drafter_deployment_name(name),
        num_replicas=drafter.replicas,
        ray_actor_options={"num_cpus": drafter.num_cpus, "num_gpus": drafter.num_gpus},
    )


def _deployment(config: Config, kind: type, **options: Any) -> serve.Deployment:
    end_s = config.limits.drain_s + _END_S
    deployment: serve.Deployment = serve.deployment(**options, **_EVERYWHERE, graceful_shutdown_timeout_s=end_s)(kind)
    # Without a version Serve takes each deployment for another and replaces every replica.
    return deployment.options(version=_version(config), _internal=True)


def _version(config: Config) -> str:
    """Another one wherever replicas must be replaced."""
    made_of = f"{version('polydraft')} {config.without_counts().model_dump_json()}"
    return hashlib.sha256(made_of.encode()).hexdigest()[:16]
