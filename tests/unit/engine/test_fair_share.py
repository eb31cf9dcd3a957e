"""Shares of tenants by weight: who comes next, who is above its share, and what being away brings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fair_share import FairShare

WEIGHTS = st.dictionaries(st.sampled_from("abcde"), st.floats(0.1, 10.0), min_size=2)


@given(WEIGHTS, st.lists(st.integers(1, 50), min_size=300, max_size=300))
def test_tenants_that_always_want_more_are_served_by_weight(weights: dict[str, float], rows: list[int]) -> None:
    shares = FairShare()
    shares.update(weights)

    for amount in rows:
        shares.charge(min(weights, key=shares.served), amount)

    # Nobody is ahead of anybody by more than the largest piece (2401.00588, lemma 4.3).
    served = [shares.served(tenant) for tenant in weights]
    assert max(served) - min(served) <= 50 / min(weights.values()) + 1e-6


def test_who_was_away_has_saved_nothing_and_who_left_is_not_forgiven() -> None:
    shares = FairShare()
    shares.update({"a": 1.0, "b": 1.0})
    shares.charge("a", 100)
    shares.charge("b", 300)

    shares.update({"a": 1.0})
    shares.charge("a", 50)
    shares.update({"a": 1.0, "b": 1.0, "c": 1.0})

    assert (shares.served("a"), shares.served("b"), shares.served("c")) == (150, 300, 150)


def test_an_idle_engine_begins_anew() -> None:
    shares = FairShare()
    shares.update({"a": 1.0})
    shares.charge("a", 100)
    shares.update({})
    shares.update({"a": 1.0})

    assert shares.served("a") == 0


def test_shares_follow_the_weights_of_those_who_are_there() -> None:
    shares = FairShare()
    shares.update({"a": 3.0, "b": 1.0})

    assert shares.share("a", 8) == pytest.approx(6.0)
    assert shares.share("b", 2) == 1.0  # never less than one
    assert shares.most_over({"a": 6, "b": 2}, 8) is None
    assert shares.most_over({"a": 5, "b": 3}, 8) == "b"

    shares.update({"b": 1.0})
    assert shares.share("b", 8) == 8
