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


def test_idle_pages_count_as_free_and_go_when_nothing_else_is_left_the_oldest_first() -> None:
    pool = PagePool(6, page_size=4)
    evicted: list[PageId] = []
    pool.on_evict = evicted.append
    first: list[PageId] = []
    assert pool.grow(first, 12)
    kept = list(first)
    for page in kept:
        pool.keep(page)
    pool.shrink(first, 0)
    assert pool.num_free == pool.num_usable == 5
    assert pool.idle_pages() == kept[::-1]
    second: list[PageId] = []

    assert pool.grow(second, 12)
    assert evicted == kept[:1:-1]
    pool.share(second, 3, kept[0])
    assert not pool.grow(second, 24)
    assert pool.grow(second, 20)

    assert evicted == [kept[2], kept[1]]
    assert pool.num_free == 0
    pool.check_integrity([second])


def test_a_shared_page_is_free_when_its_last_holder_is_gone() -> None:
    pool = PagePool(6, page_size=4)
    first: list[PageId] = []
    second: list[PageId] = []
    assert pool.grow(first, 4) and pool.grow(second, 4)
    pool.keep(first[0])
    pool.share(second, 0, first[0])
    assert second == first and pool.num_free == 4

    pool.shrink(first, 0)
    assert pool.num_free == 4
    pool.shrink(second, 0)
    assert pool.num_free == 5


def test_a_page_that_may_still_be_written_cannot_be_shared() -> None:
    pool = PagePool(6, page_size=4)
    pages: list[PageId] = []
    assert pool.grow(pages, 4)

    with pytest.raises(AssertionError, match="may still be written"):
        pool.share([], 0, pages[0])


def test_a_pool_without_a_page_to_give_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 pages"):
        PagePool(1, 16)
