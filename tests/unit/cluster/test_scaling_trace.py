"""The policies on signals that a real cluster told: `python -m benchmarks.scaling_trace` recorded them.

One target with 16 places, one German drafter and one router on two cores of a machine that others used too; nobody,
two streams, 24, two, nobody. The recording is open: what the policies decide changed nothing in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.demand import DrafterSignals, TargetSignals, drafter_demand, router_demand, target_demand
from cluster.scaling import Limits, ScalingState, decide
from cluster.scaling_config import DrafterScaling, RouterScaling, TargetScaling

DATA = Path(__file__).with_name("data") / "scaling_trace.jsonl"
TRACE = [json.loads(line) for line in DATA.read_text().splitlines()]
TARGET = TargetScaling(max_replicas=4, up_delay_s=4, down_delay_s=10)
DRAFTER = DrafterScaling(min_replicas=0, max_replicas=4, up_delay_s=4, down_delay_s=10, zero_delay_s=10, sessions=12)
ROUTER = RouterScaling(max_replicas=4, up_delay_s=4, down_delay_s=10)
MAX_STREAMS = 32


def target(line: dict[str, Any]) -> float | None:
    return target_demand([TargetSignals(**one) for one in line["target"]], TARGET)


def drafter(line: dict[str, Any]) -> float | None:
    signals = [
        DrafterSignals(one["sessions"], one["asking"], one["busy"], one["late"] / max(one["asked"], 1))
        for one in line["drafter-de"]
    ]
    return drafter_demand(signals, DRAFTER)


def router(line: dict[str, Any]) -> float | None:
    return router_demand([one["streams"] for one in line["router"]], MAX_STREAMS, ROUTER)


@pytest.mark.parametrize(
    ("demand", "limits", "rest"), [(target, TARGET.limits, 1), (drafter, DRAFTER.limits, 0), (router, ROUTER.limits, 1)]
)
def test_a_tier_grows_with_the_burst_and_shrinks_after_it_without_flapping(
    demand: Callable[[dict[str, Any]], float | None], limits: Limits, rest: int
) -> None:
    state, replicas, counts = ScalingState(), 1, dict[int, list[int]]()
    changes = 0
    for line in TRACE:
        before = replicas
        replicas, state = decide(demand(line), replicas, limits, state, line["s"])
        changes += replicas != before
        counts.setdefault(line["streams"], []).append(replicas)

    assert max(counts[24]) >= 2
    assert max(counts[2][:10]) <= 1
    assert counts[0][-1] == rest
    assert changes <= 5
