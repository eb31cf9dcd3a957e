"""Who owns which KV page. Pure bookkeeping: no tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NewType

PageId = NewType("PageId", int)
TRASH_PAGE = PageId(0)
"""Never owned: padding rows write here, masked positions read from here."""


def num_pages_for(num_slots: int, page_size: int) -> int:
    """Pages that hold `num_slots` tokens."""
    return -(-num_slots // page_size)


class PagePool:
    """A fixed number of pages with reference counts."""

    def __init__(self, num_pages: int, page_size: int) -> None:
        if num_pages < 2:
            raise ValueError(f"a KV pool needs at least 2 pages (one is the trash page), got {num_pages}")
        self.page_size = page_size
        self.num_pages = num_pages
        self._free = [PageId(page) for page in range(num_pages - 1, 0, -1)]
        self._references = [0] * num_pages

    @property
    def num_usable(self) -> int:
        return self.num_pages - 1

    @property
    def num_free(self) -> int:
        return len(self._free)

    def grow(self, pages: list[PageId], num_slots: int) -> bool:
        """Extend a session's page list to hold `num_slots` tokens; False, with nothing changed, if too few are free."""
        missing = num_pages_for(num_slots, self.page_size) - len(pages)
        if missing > len(self._free):
            return False
        for _ in range(missing):
            page = self._free.pop()
            self._references[page] = 1
            pages.append(page)
        return True

    def shrink(self, pages: list[PageId], num_slots: int) -> None:
        """Give back the pages beyond `num_slots` tokens."""
        keep = num_pages_for(num_slots, self.page_size)
        while len(pages) > keep:
            self._release(pages.pop())

    def _release(self, page: PageId) -> None:
        self._references[page] -= 1
        assert self._references[page] >= 0, f"page {page} released more often than taken"
        if self._references[page] == 0:
            self._free.append(page)

    def check_integrity(self, owned: Sequence[Sequence[PageId]]) -> None:
        """Raise AssertionError unless free and owned pages are exactly the pool."""
        counts = [0] * self.num_pages
        for pages in owned:
            for page in pages:
                counts[page] += 1
        assert counts[TRASH_PAGE] == 0, "a session owns the trash page"
        assert counts == self._references, "page reference counts differ from what sessions hold"
        free = set(self._free)
        assert len(free) == len(self._free), "a page is free twice"
        for number, num_owners in enumerate(counts[1:], start=1):
            is_free = number in free
            assert is_free == (num_owners == 0), f"page {number} has {num_owners} owners and is free: {is_free}"
