"""What a tier asks for, from what its replicas measure: laws for any signals."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.demand import DRAIN_S, DrafterSignals, TargetSignals, drafter_demand, router_demand, target_demand
from cluster.scaling_config import DrafterScaling, RouterScaling, TargetScaling

shares = st.floats(0, 1)
targets = st.builds(TargetSignals, st.floats(0, 4), shares, shares, st.floats(0, 600))
drafters = st.builds(DrafterSignals, st.floats(0, 200), st.floats(0, 200), shares, shares)
TARGET = TargetScaling(max_replicas=10, sessions=0.5, kv=0.8, prefill=0.4)
DRAFTER = DrafterScaling(max_replicas=10, sessions=8.0, late=0.1, wake_streams=4)


def test_the_target_asks_for_what_its_shortest_resource_needs() -> None:
    idle = TargetSignals(sessions=0.0, kv=0.0, prefilling=0.0, prefill_s=0.0)

    assert target_demand([idle], TARGET) == 0
    assert target_demand([replace(idle, sessions=1.5)], TARGET) == pytest.approx(3)
    assert target_demand([replace(idle, kv=0.8)] * 2, TARGET) == pytest.approx(2)
    assert target_demand([replace(idle, prefilling=0.4, kv=0.4)], TARGET) == pytest.approx(1)
    assert target_demand([replace(idle, prefilling=1.0, prefill_s=DRAIN_S)], TARGET) == pytest.approx(5)


def test_a_drafter_that_few_ask_for_may_rest_and_one_that_is_asked_may_not() -> None:
    idle = DrafterSignals(sessions=0.0, asking=0.0, busy=0.0, late=0.0)

    assert drafter_demand([replace(idle, sessions=1.9)], DRAFTER) == 0
    assert 0 < (drafter_demand([replace(idle, sessions=2.0)], DRAFTER) or 0) < 1


def test_a_drafter_asks_by_its_load_and_by_late_blocks_if_it_is_not_idle() -> None:
    used = DrafterSignals(sessions=9.0, asking=4.8, busy=0.5, late=0.0)

    assert drafter_demand([used] * 2, DRAFTER) == pytest.approx(1.2)
    assert drafter_demand([replace(used, late=0.2)] * 2, DRAFTER) == pytest.approx(2.4)
    assert drafter_demand([replace(used, busy=0.1, late=0.9)] * 2, DRAFTER) == pytest.approx(1.2)


def test_routers_ask_by_open_streams() -> None:
    assert router_demand([30, 60], 100, RouterScaling(max_replicas=5, streams=0.5)) == pytest.approx(1.8)


def test_a_tier_that_tells_nothing_asks_for_nothing() -> None:
    assert target_demand([], TARGET) is None
    assert drafter_demand([], DRAFTER) is None
    assert router_demand([], 100, RouterScaling(max_replicas=5)) is None


@given(st.lists(targets, min_size=1, max_size=5), st.integers(0, 4), st.sampled_from(fields(TargetSignals)))
def test_more_load_never_asks_for_fewer_targets(loads: list[TargetSignals], place: int, field: object) -> None:
    name = getattr(field, "name")  # noqa: B009  # Field is generic in its type
    place %= len(loads)
    more = [*loads]
    more[place] = replace(loads[place], **{name: getattr(loads[place], name) + 0.5})

    assert (target_demand(more, TARGET) or 0) >= (target_demand(loads, TARGET) or 0)


@given(st.lists(drafters, min_size=1, max_size=5), st.integers(0, 4), st.sampled_from(["sessions", "asking", "busy"]))
def test_more_load_never_asks_for_fewer_drafters(loads: list[DrafterSignals], place: int, name: str) -> None:
    place %= len(loads)
    more = [*loads]
    more[place] = replace(loads[place], **{name: getattr(loads[place], name) + 0.5})

    assert (drafter_demand(more, DRAFTER) or 0) >= (drafter_demand(loads, DRAFTER) or 0)


@given(targets, st.integers(1, 9))
def test_the_targets_demand_does_not_depend_on_how_many_share_the_load(load: TargetSignals, number: int) -> None:
    part = TargetSignals(*(getattr(load, field.name) / number for field in fields(TargetSignals)))

    assert target_demand([part] * number, TARGET) == pytest.approx(target_demand([load], TARGET))
