"""How many replicas a tier gets: laws for any demand, and what the delays mean."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.scaling import SLACK, Limits, ScalingState, decide

TICK_S = 1.0
demands = st.none() | st.floats(0, 200, allow_nan=False)
delays = st.sampled_from([0.0, 1.0, 3.0, 10.0])
limits = st.builds(
    lambda low, more, *delays_s: Limits(low, max(low + more, 1), *delays_s),
    st.integers(0, 5),
    st.integers(0, 50),
    delays,
    delays,
    delays,
)


def run(demand: Sequence[float | None], limit: Limits, replicas: int = 1) -> list[int]:
    """The replicas after each second of a demand."""
    state, counts = ScalingState(), []
    for number, value in enumerate(demand):
        replicas, state = decide(value, replicas, limit, state, number * TICK_S)
        counts.append(replicas)
    return counts


@given(limits, st.lists(demands, max_size=60), st.integers(0, 60))
def test_never_outside_of_the_limits(limit: Limits, demand: list[float | None], replicas: int) -> None:
    assert all(limit.min_replicas <= count <= limit.max_replicas for count in run(demand, limit, replicas))


@given(limits, st.floats(0, 60), st.integers(0, 60))
def test_a_constant_demand_is_met_and_then_nothing_moves(limit: Limits, demand: float, replicas: int) -> None:
    counts = run([demand] * 200, limit, replicas)

    assert counts[150:] == counts[150:151] * 50
    changes = [after - before for before, after in itertools.pairwise(counts) if after != before]
    assert all(change > 0 for change in changes) or all(change < 0 for change in changes)
    assert counts[-1] >= min(demand, limit.max_replicas) - 1e-6


@given(limits, st.floats(1, 60), st.lists(st.floats(0, 1), min_size=100, max_size=100))
def test_a_demand_that_shakes_within_the_slack_moves_nothing_once_it_is_met(
    limit: Limits, least: float, shakes: list[float]
) -> None:
    demand = [least * (1 + (SLACK - 0.01) * shake) for shake in shakes]
    met = run([least * (1 + SLACK - 0.01)] * 100, limit)[-1]

    assert set(run(demand, limit, met)) == {met}


@given(limits, st.lists(demands, max_size=30), st.floats(0, 60), st.floats(0, 60), st.integers(0, 60))
def test_more_demand_never_gives_fewer_replicas(
    limit: Limits, past: list[float | None], one: float, other: float, replicas: int
) -> None:
    state = ScalingState()
    for number, value in enumerate(past):
        replicas, state = decide(value, replicas, limit, state, number * TICK_S)

    fewer, more = (decide(value, replicas, limit, state, len(past) * TICK_S)[0] for value in sorted((one, other)))

    assert fewer <= more


@given(limits, st.lists(demands, max_size=40), st.floats(-1e6, 1e6))
def test_only_differences_of_the_clock_count(limit: Limits, demand: list[float | None], begin: float) -> None:
    begin = float(round(begin))  # exact in binary, as the seconds are
    state, shifted, replicas, moved = ScalingState(), ScalingState(), 1, 1
    for number, value in enumerate(demand):
        replicas, state = decide(value, replicas, limit, state, float(number))
        moved, shifted = decide(value, moved, limit, shifted, begin + number)
        assert replicas == moved


@pytest.mark.parametrize("tick_s", [0.1, 1.0, 2.5])
def test_a_burst_must_last_and_a_lull_too_however_often_one_looks(tick_s: float) -> None:
    limit = Limits(1, 10, up_delay_s=5, down_delay_s=20)
    state, replicas, changes = ScalingState(), 1, []
    for number in range(round(60 / tick_s)):
        now = number * tick_s
        before = replicas
        replicas, state = decide(1.8 if now < 15 else 0.5, replicas, limit, state, now)
        if replicas != before:
            changes.append((now, replicas))

    assert [count for _, count in changes] == [2, 1]
    assert 5 <= changes[0][0] < 5 + tick_s
    assert 35 <= changes[1][0] <= 35 + tick_s


def test_a_burst_that_is_over_before_the_delay_starts_nothing() -> None:
    assert set(run([3.0] * 4 + [0.5] * 20, Limits(1, 10, up_delay_s=5))) == {1}


def test_a_lull_that_is_over_before_the_delay_ends_nothing() -> None:
    assert set(run(([4.0] * 3 + [0.5] * 15) * 5, Limits(1, 10, down_delay_s=20), 4)) == {4}


def test_replicas_at_most_double_at_once_and_end_together() -> None:
    assert run([16.0] * 6, Limits(1, 100)) == [2, 4, 8, 16, 16, 16]
    assert run([16.0] + [1.0] * 12, Limits(1, 100, down_delay_s=10), 16) == [16] * 11 + [2, 2]


def test_the_last_replica_has_a_delay_of_its_own() -> None:
    counts = run([3.0] + [0.0] * 60, Limits(0, 5, down_delay_s=5, zero_delay_s=30), 3)

    assert [counts.index(1), counts.index(0)] == [6, 36]


def test_a_tier_that_tells_nothing_stays_as_it_is() -> None:
    assert run([None] * 100, Limits(0, 5), 3) == [3] * 100
