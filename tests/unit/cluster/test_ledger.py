"""Laws of the ledger, whatever routers claim, spend, give back and forget, and whenever."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.ledger import Claim, Ledger, Meter

ROUTERS = ("r1", "r2", "r3")
RATE, BURST = 10.0, 30.0
STREAMS = 7
SILENT_S = 5.0

Turn = tuple[str, float, bool, list[int]]
"""A router, after how many seconds, whether it wants more, and what it then does so many times or of so much."""


def histories(least: int, most: int) -> st.SearchStrategy[list[Turn]]:
    pauses = st.sampled_from([0.0, 0.0, 0.01, 0.3, 3.0])
    turn = st.tuples(st.sampled_from(ROUTERS), pauses, st.booleans(), st.lists(st.integers(least, most), max_size=8))
    return st.lists(turn, min_size=20, max_size=60)


@pytest.mark.parametrize("most", [1, 40])
@given(data=st.data())
def test_no_more_is_spent_than_comes_in(data: st.DataObject, most: int) -> None:
    """Routers spend while they have something left, so that each may be overdrawn once."""
    ledger, now_s, spent = Ledger(), 0.0, 0.0
    left = dict.fromkeys(ROUTERS, 0.0)
    for name, pause_s, wants, amounts in data.draw(histories(1, most)):
        now_s += pause_s
        claim = Claim("acme", Meter.PROMPT_TOKENS, RATE, BURST, left[name], wants=wants)
        (grant,) = ledger.settle(name, [claim], len(ROUTERS), now_s)
        left[name] = grant.amount
        for amount in amounts:
            if left[name] > 0:
                left[name] -= amount
                spent += amount
        assert spent <= BURST + RATE * now_s + len(ROUTERS) * most


@given(histories(1, 40))
def test_what_is_left_alone_fills_up_again(history: list[Turn]) -> None:
    ledger, now_s = Ledger(), 0.0
    for name, pause_s, wants, amounts in history:
        now_s += pause_s
        claim = Claim("acme", Meter.REQUESTS, RATE, BURST, -float(sum(amounts)), wants=wants)
        ledger.settle(name, [claim], len(ROUTERS), now_s)

    paid_back_s = 60 * 8 * 40 / RATE
    (grant,) = ledger.settle("r1", [Claim("acme", Meter.REQUESTS, RATE, BURST)], 1, now_s + paid_back_s)

    assert grant.amount == BURST


@dataclass
class Opener:
    """A router on the limit of streams."""

    in_use: int = 0
    left: float = 0.0
    heard_s: float = -SILENT_S


@given(histories(-2, 2))
def test_never_more_streams_are_open_or_may_be_than_the_limit(history: list[Turn]) -> None:
    ledger, now_s = Ledger(), 0.0
    routers = {name: Opener() for name in ROUTERS}
    for name, pause_s, wants, changes in history:
        now_s += pause_s
        for silent in routers.values():
            if now_s - silent.heard_s >= SILENT_S:
                silent.in_use, silent.left = 0, 0.0  # routers settle every second: it is gone, and its streams
        router = routers[name]
        claim = Claim("acme", Meter.STREAMS, STREAMS, STREAMS, router.left, router.in_use, wants)
        (grant,) = ledger.settle(name, [claim], len(ROUTERS), now_s)
        router.left, router.heard_s = grant.amount, now_s
        for change in changes:
            opened = max(min(change, int(router.left)), -router.in_use)
            router.left -= opened
            router.in_use += opened
        assert sum(each.in_use + each.left for each in routers.values()) <= STREAMS
        assert ledger.num_held_streams(now_s) <= STREAMS


@given(st.integers(1, 40), st.integers(1, 6))
def test_one_stream_that_is_free_is_granted(limit: int, num_routers: int) -> None:
    ledger = Ledger()
    for number in range(limit):
        claim = Claim("acme", Meter.STREAMS, limit, limit, in_use=number)
        (grant,) = ledger.settle("r1", [claim], num_routers, 0.0)
        assert grant.amount >= 1
