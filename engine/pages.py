"""Who holds which KV page. Pure bookkeeping: no tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NewType

PageId = NewType("PageId", int)
TRASH_PAGE = PageId(0)
"""Never owned. Masked positions read its first slot, which nobody writes: a masked value weighs nothing, but nothing
times NaN is NaN."""


def trash_slot(page_size: int) -> int:
    """Where padding rows write: the last slot of the trash page, which nobody reads."""
    return page_size - 1


def num_pages_for(num_slots: int, page_size: int) -> int:
    """Pages that hold `num_slots` tokens."""
    return -(-num_slots // page_size)


class PagePool:
    """A fixed number of pages with reference counts.

    A kept page outlives its last holder: it stays as it is, idle, ready to be held again, until its room is needed.
    """

    def __init__(self, num_pages: int, page_size: int) -> None:
        if num_pages < 2:
            raise ValueError(f"a KV pool needs at least 2 pages (one is the trash page), got {num_pages}")
        if page_size < 2:
            raise ValueError(f"a KV page needs at least 2 slots, got {page_size}")
        self.page_size = page_size
        self.num_pages = num_pages
        self.on_evict: Callable[[PageId], None] = lambda page: None
        """Told of each kept page whose room is needed."""
        self._free = [PageId(page) for page in range(num_pages - 1, 0, -1)]
        self._references = [0] * num_pages
        self._kept: set[PageId] = set()
        self._idle: dict[PageId, None] = {}
        """Kept pages that nobody holds, least recently used first."""

    @property
    def num_usable(self) -> int:
        return self.num_pages - 1

    @property
    def num_free(self) -> int:
        """Pages that can be given away, idle ones included."""
        return len(self._free) + len(self._idle)

    def grow(self, pages: list[PageId], num_slots: int) -> bool:
        """Extend a session's page list to hold `num_slots` tokens; False, with nothing changed, if too few are free."""
        missing = num_pages_for(num_slots, self.page_size) - len(pages)
        if missing > self.num_free:
            return False
        for _ in range(missing):
            page = self._free.pop() if self._free else self._evict()
            self._references[page] = 1
            pages.append(page)
        return True

    def shrink(self, pages: list[PageId], num_slots: int) -> None:
        """Give back the pages beyond `num_slots` tokens, the last one first."""
        keep = num_pages_for(num_slots, self.page_size)
        while len(pages) > keep:
            self._release(pages.pop())

    def keep(self, page: PageId) -> None:
        """Let a held page outlive its holders. It must not be written any more."""
        assert self._references[page] > 0, f"page {page} is held by nobody"
        self._kept.add(page)

    def share(self, pages: list[PageId], place: int, page: PageId) -> None:
        """Hold a kept page as number `place` of a session's list, instead of the page that is there, if any."""
        assert page in self._kept, f"page {page} may still be written"
        self._idle.pop(page, None)
        self._references[page] += 1
        if place == len(pages):
            pages.append(page)
        else:
            self._release(pages[place])
            pages[place] = page

    def idle_pages(self) -> list[PageId]:
        """Kept pages that nobody holds, in the order in which they would be evicted."""
        return list(self._idle)

    def _release(self, page: PageId) -> None:
        self._references[page] -= 1
        assert self._references[page] >= 0, f"page {page} released more often than taken"
        if self._references[page] == 0:
            if page in self._kept:
                self._idle[page] = None
            else:
                self._free.append(page)

    def _evict(self) -> PageId:
        """The page that was idle longest."""
        page = next(iter(self._idle))
        del self._idle[page]
        self._kept.remove(page)
        self.on_evict(page)
        return page

    def check_integrity(self, owned: Sequence[Sequence[PageId]]) -> None:
        """Raise AssertionError unless free, idle and owned pages are exactly the pool."""
        counts = [0] * self.num_pages
        for pages in owned:
            for page in pages:
                counts[page] += 1
        assert counts[TRASH_PAGE] == 0, "a session owns the trash page"
        assert counts == self._references, "page reference counts differ from what sessions hold"
        free = set(self._free)
        assert len(free) == len(self._free), "a page is free twice"
        assert all(counts[page] <= 1 for page in range(self.num_pages) if page not in self._kept), (
            "a page that may still be written has several owners"
        )
        for number, num_owners in enumerate(counts[1:], start=1):
            page = PageId(number)
            found = (page in free, page in self._idle)
            expected = (False, False) if num_owners else (page not in self._kept, page in self._kept)
            assert found == expected, f"page {page} has {num_owners} owners and is (free, idle): {found}"
