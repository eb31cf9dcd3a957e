"""The page pool never loses a page and never gives one away twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pages import PageId, PagePool


@given(st.integers(2, 12), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=40))
def test_any_order_of_growing_and_shrinking_keeps_the_pool_whole(num_pages: int, calls: list[tuple[int, int]]) -> None:
    pool = PagePool(num_pages, page_size=4)
    owned: list[list[PageId]] = [[], [], [], []]

    for owner, num_slots in calls:
        before = list(owned[owner])
        if not pool.grow(owned[owner], num_slots):
            assert owned[owner] == before
            pool.shrink(owned[owner], num_slots // 2)
        pool.check_integrity(owned)

    assert pool.num_free + sum(map(len, owned)) == pool.num_usable


def test_a_pool_without_a_page_to_give_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 pages"):
        PagePool(1, 16)
