"""What Serve's controller gets from a tier's policy."""

from __future__ import annotations

from typing import Any

import pytest
from ray.serve._private.common import DeploymentID, TimeStampedValue
from ray.serve.config import AutoscalingContext

from cluster.scaling_config import DrafterScaling, RouterScaling, TargetScaling
from deployments.scaling import WINDOW_S, TierPolicy, autoscaling_config, means


def context(
    raw: dict[str, dict[str, list[tuple[float, float]]]], replicas: int, state: dict[str, Any], now: float
) -> AutoscalingContext:
    """What Serve knows at `now`."""
    series: dict[str, Any] = {
        name: {replica: [TimeStampedValue(*point) for point in points] for replica, points in by_replica.items()}
        for name, by_replica in raw.items()
    }
    return AutoscalingContext(
        deployment_id=DeploymentID("target", "polydraft"),
        deployment_name="target",
        app_name="polydraft",
        current_num_replicas=replicas,
        target_num_replicas=replicas,
        running_replicas=[],
        total_num_requests=0,
        total_queued_requests=0,
        aggregated_metrics={},
        raw_metrics=series,
        capacity_adjusted_min_replicas=0,
        capacity_adjusted_max_replicas=100,
        policy_state=state,
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=now,
        config=None,
    )


def test_means_are_of_the_last_seconds_and_of_replicas_that_tell_everything() -> None:
    now = 1_000.0
    points = [TimeStampedValue(now - WINDOW_S - 1, 9.0), TimeStampedValue(now - 4, 1.0), TimeStampedValue(now, 3.0)]
    silent = points[:1]

    assert means({"streams": {"a": points, "b": silent}}, now) == [{"streams": 2.0}]
    assert means({"sessions": {"a": points, "b": points}, "kv": {"a": points}}, now) == [{"sessions": 2.0, "kv": 2.0}]
    assert means({}, now) == []


def test_a_policy_waits_for_its_delay_and_remembers_since_when() -> None:
    section = RouterScaling(max_replicas=5, up_delay_s=4, streams=0.5)
    policy = TierPolicy(**autoscaling_config("router", section, 10).policy.policy_kwargs)
    state: dict[str, Any] = {}
    decisions = []
    for second in range(5):
        now = 100.0 + second
        replicas, state = policy(context({"streams": {"r1": [(now, 9.0)]}}, 1, state, now))
        decisions.append(replicas)

    assert decisions == [1, 1, 1, 1, 2]


def test_late_blocks_are_a_share_of_those_that_were_asked_for() -> None:
    section = DrafterScaling(max_replicas=5, up_delay_s=0, sessions=50, late=0.1)
    policy = TierPolicy("drafter", section.model_dump(mode="json"), 0)
    told = {"sessions": 9.0, "asking": 9.0, "busy": 0.9, "asked": 100.0, "late": 5.0}

    def decision(late: float) -> int:
        raw = {name: {"r1": [(50.0, value)]} for name, value in {**told, "late": late}.items()}
        return policy(context(raw, 1, {}, 50.0))[0]

    assert [decision(5.0), decision(20.0)] == [1, 2]


@pytest.mark.parametrize("now", [50.0, 500.0])
def test_a_tier_whose_replicas_start_or_are_silent_stays_as_it_is(now: float) -> None:
    policy = TierPolicy("target", TargetScaling(max_replicas=5).model_dump(mode="json"), 0)
    names = ("sessions", "kv", "prefilling", "prefill_s")
    raw = {name: {"r1": [(50.0 - WINDOW_S - 1, 0.0)]} for name in names}

    assert policy(context(raw, 3, {}, now))[0] == 3


def test_serve_gets_the_limits_and_no_delays_of_its_own() -> None:
    config = autoscaling_config("drafter", DrafterScaling(min_replicas=0, max_replicas=7), 10)

    assert (config.min_replicas, config.max_replicas, config.initial_replicas) == (0, 7, None)
    assert (config.upscale_delay_s, config.downscale_delay_s, config.downscale_to_zero_delay_s) == (0, 0, 0)
