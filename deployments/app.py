"""The one place where deployments get names, resources and options: `build(config) -> Application`."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import Any

from ray import serve

from cluster.config import Config, TargetConfig
from cluster.scaling_config import ScalingConfig
from cluster.tier_config import for_drafter, for_router, for_target
from deployments.directory import drafter_deployment_name, named_directory
from deployments.drafter import DrafterDeployment
from deployments.router import RouterDeployment
from deployments.scaling import Tier, autoscaling_config
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
    directory = directory_name(config)
    target = _target(config).bind(for_target(config), directory, token)
    drafters = [
        _drafter(config, name).bind(for_drafter(config, name), name, directory, token) for name in config.tier_drafters
    ]
    return _router(config).bind(for_router(config), directory, token, target, *drafters)


def _router(config: Config) -> serve.Deployment:
    cluster = config.cluster
    kind: type = RouterDeployment if cluster.front == "grpc" else ServeIngressDeployment
    return _deployment(
        for_router(config),
        kind if cluster.http_port is None else serve.ingress()(kind),
        name="router",
        **_size(config, "router", cluster.routers, cluster.router_autoscaling),
        ray_actor_options={"num_cpus": cluster.router_num_cpus, "resources": cluster.router_resources},
        # Told to routers that run, too: a change of scaling replaces none.
        user_config={name: drafter.wake_streams for name, drafter in config.resting_drafters.items()},
    )


def _target(config: Config) -> serve.Deployment:
    target = config.target
    return _deployment(
        for_target(config),
        TargetDeployment,
        name="target",
        **_size(config, "target", target.replicas, target.autoscaling),
        ray_actor_options={
            "num_cpus": target.num_cpus,
            "num_gpus": target.num_gpus,
            "resources": target.resources,
        },
        **_place_of_shards(target),
    )


def _place_of_shards(target: TargetConfig) -> dict[str, Any]:
    """Room for all shards of a replica, the replica itself first. Shards talk over loopback: one machine holds them."""
    if target.shards == 1:
        return {}
    of_each = {kind: n for kind, n in (("CPU", target.num_cpus), ("GPU", target.num_gpus)) if n > 0}
    bundles = [of_each | target.resources, *[of_each] * (target.shards - 1)]
    return {"placement_group_bundles": bundles, "placement_group_strategy": "STRICT_PACK"}


def _drafter(config: Config, name: str) -> serve.Deployment:
    drafter = config.drafters[name]
    return _deployment(
        for_drafter(config, name),
        DrafterDeployment,
        name=drafter_deployment_name(name),
        **_size(config, "drafter", drafter.replicas, drafter.autoscaling),
        ray_actor_options={
            "num_cpus": drafter.num_cpus,
            "num_gpus": drafter.num_gpus,
            "resources": drafter.resources,
        },
    )


def _size(config: Config, tier: Tier, count: int, scaling: ScalingConfig | None) -> dict[str, Any]:
    """A fixed number of replicas, or how many there may be."""
    if scaling is None:
        return {"num_replicas": count}
    return {"autoscaling_config": autoscaling_config(tier, scaling, config.limits.max_concurrent_streams)}


def _deployment(of_tier: Config, kind: type, **options: Any) -> serve.Deployment:
    end_s = of_tier.limits.drain_s + _END_S
    deployment: serve.Deployment = serve.deployment(**options, **_EVERYWHERE, graceful_shutdown_timeout_s=end_s)(kind)
    # Without a version Serve takes each deployment for another and replaces every replica.
    return deployment.options(version=_version(of_tier), _internal=True)


def _version(of_tier: Config) -> str:
    """Another one wherever replicas must be replaced."""
    made_of = f"{version('polydraft')} {of_tier.model_dump_json()}"
    return hashlib.sha256(made_of.encode()).hexdigest()[:16]
