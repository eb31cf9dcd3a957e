"""Which KV pages a sequence can take from others: full pages of committed tokens, found by their contents.

The index is a trie. A page is known by the tokens in it, the known page before it, and whose it is: of one tenant, or
of everyone if it lies inside a prefix that the configuration names. The ids themselves are compared, not a hash, and a
page's number is never used again, so wrong KV cannot be found, whatever is evicted in which order. What is found has
the bits that the sequence would have computed (by invariance).

A sequence that holds a known page holds those before it too, and releases its last page first. So in the order in which
pages become idle children stand before their parents, and that is the order of eviction.

Pure bookkeeping: no tensors.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from itertools import count, takewhile
from typing import NamedTuple

from engine.pages import PageId, PagePool
from engine.session import Sequence


class _Content(NamedTuple):
    """What a page is known by."""

    tenant: str | None
    """None: everyone may find it."""
    previous: int
    """Number of the page before; 0 for the first."""
    token_ids: tuple[int, ...]


class _Known(NamedTuple):
    """A page in the index. Numbers are never used twice, unlike pages."""

    page: PageId
    number: int
    content: _Content


@dataclass(slots=True)
class PrefixCounters:
    """What sharing did since the start."""

    lookups: int = 0
    """Sequences that were admitted."""
    hit_tokens: int = 0
    """Tokens whose KV was found."""
    evictions: int = 0
    """Pages that had to go for others."""


def _common_length(first: SequenceOf[int], second: SequenceOf[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


class PrefixIndex:
    """The pages of a pool that sequences may share."""

    def __init__(self, pool: PagePool, public_prefixes: SequenceOf[SequenceOf[int]] = (), enabled: bool = True) -> None:
        self.counters = PrefixCounters()
        self._pool = pool
        self._public_prefixes = tuple(public_prefixes)
        self._enabled = enabled
        self._numbers = count(1)
        self._of_content: dict[_Content, _Known] = {}
        self._of_page: dict[PageId, _Known] = {}
        pool.on_evict = self._forget

    def num_public_pages(self, token_ids: SequenceOf[int]) -> int:
        """Leading pages of a sequence that lie inside a prefix named in the configuration."""
        common = max((_common_length(prefix, token_ids) for prefix in self._public_prefixes), default=0)
        return common // self._pool.page_size

    def extend(self, sequence: Sequence) -> None:
        """Let a sequence go on with known pages as far as there are any. One token at least is left to read."""
        page_size = self._pool.page_size
        while self._enabled and (sequence.num_known_pages + 1) * page_size < len(sequence.token_ids):
            known = self._of_content.get(self._content(sequence, sequence.num_known_pages))
            if known is None:
                return
            self._pool.share(sequence.pages, sequence.num_known_pages, known.page)
            sequence.num_known_pages += 1
            sequence.num_found += sequence.num_known_pages * page_size - sequence.num_cached
            sequence.num_cached = sequence.num_known_pages * page_size

    def register(self, sequence: Sequence) -> None:
        """Make pages known that have become full; a sequence whose page was known before holds that one from now on."""
        while self._enabled and (sequence.num_known_pages + 1) * self._pool.page_size <= sequence.num_cached:
            place = sequence.num_known_pages
            content = self._content(sequence, place)
            known = self._of_content.get(content)
            if known is None:
                self._add(sequence.pages[place], content)
            else:
                self._pool.share(sequence.pages, place, known.page)
            sequence.num_known_pages += 1

    def check_integrity(self, sequences: Iterable[Sequence]) -> None:
        """Raise AssertionError unless sequences hold what their tokens say, and none can write a known page."""
        page_size = self._pool.page_size
        for sequence in sequences:
            num_known = sequence.num_known_pages
            assert num_known * page_size <= sequence.num_cached, f"sequence {sequence.id} may write a known page"
            assert not any(page in self._of_page for page in sequence.pages[num_known:]), (
                f"sequence {sequence.id} holds a known page where it may write"
            )
            for place, page in enumerate(sequence.pages[:num_known]):
                assert self._of_page[page].content == self._content(sequence, place), (
                    f"page {place} of sequence {sequence.id} holds other tokens"
                )
        assert len(self._of_content) == len(self._of_page), "a page is known twice"
        gone: set[int] = set()
        for page in self._pool.idle_pages():
            known = self._of_page[page]
            assert known.content.previous not in gone, f"page {page} would be evicted after the one before it"
            gone.add(known.number)

    def _content(self, sequence: Sequence, place: int) -> _Content:
        """What the page at `place` is known by; all pages before it must be known."""
        start = place * self._pool.page_size
        return _Content(
            tenant=None if place < sequence.num_public_pages else sequence.request.tenant,
            previous=self._of_page[sequence.pages[place - 1]].number if place else 0,
            token_ids=tuple(sequence.token_ids[start : start + self._pool.page_size]),
        )

    def _add(self, page: PageId, content: _Content) -> None:
        self._of_content[content] = self._of_page[page] = _Known(page, next(self._numbers), content)
        self._pool.keep(page)

    def _forget(self, page: PageId) -> None:
        del self._of_content[self._of_page.pop(page).content]
        self.counters.evictions += 1
