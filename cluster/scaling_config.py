"""The `autoscaling` section of each tier, and the `resources` that bind a tier to its machines."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from cluster.scaling import Limits
from cluster.schema import Count, Section, Share

Delay = Annotated[float, Field(ge=0, le=86_400)]

_OWN_KEYS = {"CPU": "num_cpus", "GPU": "num_gpus"}


def _not_ours(resources: dict[str, float]) -> dict[str, float]:
    for name, key in _OWN_KEYS.items():
        if name in resources:
            raise ValueError(f"resources: '{name}' has a key of its own; use {key}")
    return resources


Resources = Annotated[
    dict[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,62}$")],
        Annotated[float, Field(gt=0, le=1_000_000)],
    ],
    AfterValidator(_not_ours),
]
"""Of a replica, by the names that the machines' node types offer, such as `{drafter_tier: 1}`."""


class ScalingConfig(Section):
    """What the tiers have in common."""

    min_replicas: Count = 1
    max_replicas: Count
    up_delay_s: Delay = 10.0
    """How long there must be too few replicas before more are started."""
    down_delay_s: Delay = 300.0
    """How long there must be too many before some end."""

    @property
    def limits(self) -> Limits:
        """For `cluster.scaling.decide`."""
        return Limits(self.min_replicas, self.max_replicas, self.up_delay_s, self.down_delay_s, self.down_delay_s)

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas: {self.min_replicas} exceeds max_replicas {self.max_replicas}; change one of them"
            )
        return self


class TargetScaling(ScalingConfig):
    """Of the target: the signal that asks for most replicas counts. Each is what a replica should have on average."""

    sessions: Share = 0.7
    """Of `max_sessions`, sessions that wait included."""
    kv: Share = 0.8
    """Of its pages."""
    prefill: Share = 0.6
    """Of the time in which prompts wait to be read."""


class DrafterScaling(ScalingConfig):
    """Of one drafter. With `min_replicas: 0` it ends when nobody asks for it; its requests run undrafted meanwhile."""

    min_replicas: Annotated[int, Field(ge=0, le=1 << 31)] = 1
    zero_delay_s: Delay = 300.0
    """How long nobody must have asked before the last replica ends."""
    wake_streams: Count = 1
    """A drafter that rests is started when so many streams at one router would use it, and rests when fewer than half
    as many do."""
    sessions: Annotated[float, Field(gt=0, le=10_000)] = 16.0
    """Of a replica, that ask it for blocks."""
    late: Share = 0.05
    """Of its blocks, those that come too late. More ask for a replica, if this one is not mostly idle."""

    @property
    def limits(self) -> Limits:
        return replace(super().limits, zero_delay_s=self.zero_delay_s)


class RouterScaling(ScalingConfig):
    """Of the routers."""

    streams: Share = 0.5
    """Of `limits.max_concurrent_streams`."""


def fixed_or_scaled(section: Section, count: str, autoscaling: ScalingConfig | None, key: str) -> None:
    """Raise ValueError if a section has a number of replicas and limits for one."""
    if autoscaling is not None and (number := getattr(section, count)) != 1:
        raise ValueError(f"{key}: set beside {count}: {number}, which is a fixed number; remove one of the two keys")
