"""How Serve scales the tiers: its controller asks one of these policies several times a second.

The policies are `cluster.demand` and `cluster.scaling`; here is only what Serve needs around them. Serve's own delays
are off, as ours stand in the policies, where they can be tested.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from cluster.demand import DrafterSignals, TargetSignals, drafter_demand, router_demand, target_demand
from cluster.scaling import ScalingState, decide
from cluster.scaling_config import DrafterScaling, RouterScaling, ScalingConfig, TargetScaling

Tier = Literal["router", "target", "drafter"]

TELL_S = 2.0
"""How often a replica tells its signals."""
WINDOW_S = 10.0
"""What they are averaged over."""
_STATE = "scaling"
_SECTIONS: dict[Tier, type[ScalingConfig]] = {
    "router": RouterScaling,
    "target": TargetScaling,
    "drafter": DrafterScaling,
}


class TierPolicy:
    """Serve makes one for each deployment. Its arguments are plain values, since Serve keeps them as JSON."""

    def __init__(self, tier: Tier, section: Mapping[str, Any], max_streams: int) -> None:
        self._aims = _SECTIONS[tier](**section)
        self._max_streams = max_streams
        self._limits = self._aims.limits

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        now = context.current_time
        assert now is not None, "Serve tells the time"
        state = context.policy_state.get(_STATE, ScalingState())
        demand = self._demand(means(context.raw_metrics or {}, now))
        replicas, state = decide(demand, context.target_num_replicas, self._limits, state, now)
        return replicas, {_STATE: state}

    def _demand(self, replicas: Sequence[Mapping[str, float]]) -> float | None:
        match self._aims:
            case TargetScaling() as aims:
                return target_demand([TargetSignals(**one) for one in replicas], aims)
            case DrafterScaling() as aims:
                return drafter_demand([_drafter(one) for one in replicas], aims)
            case RouterScaling() as aims:
                return router_demand([one["streams"] for one in replicas], self._max_streams, aims)
            case ScalingConfig():
                raise AssertionError("a tier without signals")


def _drafter(means_of_one: Mapping[str, float]) -> DrafterSignals:
    asked = means_of_one["asked"]
    late = means_of_one["late"] / asked if asked else 0.0
    return DrafterSignals(means_of_one["sessions"], means_of_one["asking"], means_of_one["busy"], late)


def means(raw: Mapping[str, Mapping[Any, Sequence[Any]]], now: float) -> list[dict[str, float]]:
    """Of each replica the mean of each signal over the last seconds; replicas that are silent are left out."""
    found: dict[Any, dict[str, float]] = {}
    for name, by_replica in raw.items():
        for replica, series in by_replica.items():
            recent = [point.value for point in series if point.timestamp >= now - WINDOW_S]
            if recent:
                found.setdefault(replica, {})[name] = sum(recent) / len(recent)
    names = set(raw)
    return [signals for signals in found.values() if signals.keys() == names]


def autoscaling_config(tier: Tier, section: ScalingConfig, max_streams: int) -> AutoscalingConfig:
    """For Serve."""
    with warnings.catch_warnings():
        # Serve calls metrics_interval_s deprecated in favour of a variable that it (2.60) defines and does not read.
        warnings.simplefilter("ignore", DeprecationWarning)
        return AutoscalingConfig(
            min_replicas=section.min_replicas,
            max_replicas=section.max_replicas,
            metrics_interval_s=TELL_S,
            look_back_period_s=WINDOW_S,
            upscale_delay_s=0.0,
            downscale_delay_s=0.0,
            downscale_to_zero_delay_s=0.0,
            policy=AutoscalingPolicy(  # type: ignore[no-untyped-call]
                policy_function=TierPolicy,
                policy_kwargs={"tier": tier, "section": section.model_dump(mode="json"), "max_streams": max_streams},
            ),
        )
