"""PUCT as published, so that the comparison with it is one."""

from __future__ import annotations

import math

import pytest

from benchmarks.ngram_search import best_first, by_puct, puct_value
from engine.drafters.text.history import TextHistory
from engine.drafters.text.sources import Sources
from engine.tree import TokenTree


def sources(*tokens: int) -> Sources:
    return Sources(TextHistory(tokens), None, None)


def test_the_value_of_a_child_by_hand() -> None:
    # Parent visited 7 times: 32 + ln(16 / 8); a child visited 3 times, values 6 in all, prior 0.25.
    expected = 2.0 + (32 + math.log(2)) * 0.25 * math.sqrt(7) / 4

    assert puct_value(6.0, 3, 0.25, 7) == pytest.approx(expected)
    assert puct_value(0.0, 0, 0.25, 7) == math.inf


def test_both_searches_draft_what_recurs_and_nothing_of_nothing() -> None:
    recurring = sources(*[5, 6, 7, 8, 9] * 4)

    for search in (by_puct, best_first):
        assert search(recurring, 4).follow([5, 6, 7, 8]) == [0, 1, 2, 3]
        assert search(sources(5, 6, 7), 4) == TokenTree()
