"""What of a configuration concerns each tier.

A replica is given its tier's part and nothing else, and is replaced when that has changed: a language more, or another
tenant, touches neither the target nor the other drafters.
"""

from __future__ import annotations

from cluster.adaptation_config import AdaptationConfig
from cluster.config import ClusterConfig, Config, LimitsConfig, RayConfig, TargetConfig
from cluster.observing_config import ConsoleConfig
from cluster.tls_config import TlsConfig


def for_router(config: Config) -> Config:
    """Everything but how many replicas there are."""
    return config.without_counts()


def for_target(config: Config) -> Config:
    """The target, and the drafters in its step."""
    same = config.without_counts()
    target = same.target.model_copy(update={"served_name": None})
    here = {part for name, drafter in same.target_drafters.items() for part in (name, *drafter.of)}
    drafters = {name: drafter for name, drafter in same.drafters.items() if name in here}
    return _part(config, target=target, drafters=drafters, tenants={}, adaptation=AdaptationConfig())


def for_drafter(config: Config, name: str) -> Config:
    """One drafter, and who adapts it."""
    same = config.without_counts()
    tenants = {tenant: same.tenants[tenant] for tenant in same.adapting_tenants_of(name)}
    return _part(
        config,
        target=TargetConfig(model=same.target.model, max_context=same.target.max_context),
        drafters={part: same.drafters[part] for part in (name, *same.drafters[name].of)},
        tenants=tenants,
        adaptation=same.adaptation if tenants else AdaptationConfig(),
    )


def _part(config: Config, **sections: object) -> Config:
    same = config.without_counts()
    cluster, limits = same.cluster, same.limits
    changes: dict[str, object] = {
        "cluster": ClusterConfig(name=cluster.name, host=cluster.host),
        "languages": (),
        "tenants_file": None,
        "limits": LimitsConfig(heartbeat_s=limits.heartbeat_s, lease_s=limits.lease_s, drain_s=limits.drain_s),
        "tls": TlsConfig(tiers=same.tls.tiers),
        "console": ConsoleConfig(),
        "ray": RayConfig(),
        **sections,
    }
    return same.model_copy(update=changes)
