"""The one place where deployments get names, resources and options: `build(config) -> Application`."""

from __future__ import annotations

import secrets
from typing import Any

from ray import serve

from cluster.config import Config, DrafterConfig
from deployments.directory import drafter_deployment_name
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
    "graceful_shutdown_timeout_s": 10.0,
}


def directory_name(config: Config) -> str:
    """Name of the directory actor."""
    return f"{config.cluster.name}-directory"


def build(config: Config) -> serve.Application:
    """The whole application: routers in front, one target, one deployment a drafter."""
    directory, token = directory_name(config), secrets.token_hex(16)
    target = _target(config).bind(config, directory, token)
    drafters = [
        _drafter(name, drafter).bind(config, name, directory, token) for name, drafter in config.tier_drafters.items()
    ]
    return _router(config).bind(config, directory, token, target, *drafters)


def _router(config: Config) -> serve.Deployment:
    return _deployment(
        RouterDeployment if config.cluster.front == "grpc" else ServeIngressDeployment,
        name="router",
        num_replicas=config.cluster.routers,
        ray_actor_options={"num_cpus": config.cluster.router_num_cpus},
    )


def _target(config: Config) -> serve.Deployment:
    target = config.target
    return _deployment(
        TargetDeployment,
        name="target",
        num_replicas=target.replicas,
        ray_actor_options={"num_cpus": target.num_cpus, "num_gpus": target.num_gpus},
    )


def _drafter(name: str, drafter: DrafterConfig) -> serve.Deployment:
    return _deployment(
        DrafterDeployment,
        name=drafter_deployment_name(name),
        num_replicas=drafter.replicas,
        ray_actor_options={"num_cpus": drafter.num_cpus, "num_gpus": drafter.num_gpus},
    )


def _deployment(kind: type, **options: Any) -> serve.Deployment:
    deployment: serve.Deployment = serve.deployment(**options, **_EVERYWHERE)(kind)
    return deployment
