"""Which pages are found by whom; no order of events loses a page, or shares one that is wrong or may be written."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.pages import PagePool
from engine.sampling import SamplingParams
from engine.scheduler import Scheduler, SchedulerConfig
from engine.session import LocalDrafting, OpenRequest, Sequence
from engine.tree import TokenTree

PAGE_SIZE = 4
PROMPT = tuple(range(14))  # three full pages and a rest
PUBLIC = (*range(50, 60),)  # two full pages and a rest


class Harness:
    """A scheduler whose steps are taken by hand: no draft is right, each round commits one token."""

    def __init__(self, num_pages: int = 100, prefill_chunk: int = 64, sharing: bool = True) -> None:
        config = SchedulerConfig(
            max_rows=64,
            prefill_chunk=prefill_chunk,
            draft_deadline_s=0.0,
            max_context=1000,
            prefix_sharing=sharing,
            shared_prefixes=(PUBLIC,),
        )
        self.scheduler = Scheduler(config, PagePool(num_pages, PAGE_SIZE))
        self.pool, self.prefixes = self.scheduler.pool, self.scheduler.prefixes
        self.num_opened = 0

    def open(self, token_ids: tuple[int, ...] = PROMPT, tenant: str = "a") -> Sequence:
        self.num_opened += 1
        request = OpenRequest(
            self.num_opened, token_ids, len(token_ids), SamplingParams(), 500, tenant=tenant, local=LocalDrafting()
        )
        sequence = Sequence.open(request, self.num_opened, now_s=0.0)
        sequence.num_public_pages = self.prefixes.num_public_pages(token_ids)
        self.scheduler.sequences[sequence.id] = sequence
        return sequence

    def step(self, token: int = 7) -> list[Sequence]:
        plan = self.scheduler.plan(0.0)
        assert plan.work or not self.scheduler.sequences, "nobody can run"
        self.scheduler.check_integrity()
        for work in plan.work:
            sequence = work.sequence
            if work.completes:
                sequence.append([token])
                sequence.draft = None
            sequence.num_cached += work.num_tokens
            if work.completes:
                self.pool.shrink(sequence.pages, sequence.num_cached + 1)
            self.prefixes.register(sequence)
        self.scheduler.check_integrity()
        return [work.sequence for work in plan.work]

    def found(self, token_ids: tuple[int, ...] = PROMPT, tenant: str = "a") -> int:
        """Tokens that a newcomer finds; it leaves again."""
        sequence = self.open(token_ids, tenant)
        self.scheduler.plan(0.0)
        num_found = sequence.num_cached
        self.scheduler.remove(sequence.id)
        return num_found


def test_a_full_page_is_found_by_the_same_tokens_after_the_same_tokens_only() -> None:
    harness = Harness()
    harness.open()
    harness.step()

    assert harness.found() == 12
    assert harness.found(PROMPT[:11]) == 8
    assert harness.found((*PROMPT[:8], 99, *PROMPT[9:])) == 8
    assert harness.found((99, *PROMPT[1:])) == 0
    assert harness.found(PROMPT[4:]) == 0


def test_one_token_at_least_is_left_to_read() -> None:
    harness = Harness()
    harness.open()
    harness.step()

    assert harness.found(PROMPT[:12]) == 8
    assert harness.found(PROMPT[:13]) == 12


def test_a_page_that_is_not_full_is_not_found() -> None:
    harness = Harness(prefill_chunk=3)
    running = harness.open((40,))
    harness.step()
    harness.open()
    harness.step()

    assert running.num_pending == 1
    assert harness.found() == 0


def test_tokens_of_an_answer_are_found_once_their_page_is_full() -> None:
    harness = Harness()
    sequence = harness.open()
    for token in (31, 32, 33):
        harness.step(token)

    assert sequence.num_cached == 16
    assert harness.found((*PROMPT, 31, 32, 33)) == 16
    assert harness.found((*PROMPT, 31, 99, 33)) == 12


def test_no_tenant_finds_what_another_computed() -> None:
    harness = Harness()
    harness.open(tenant="a")
    harness.open(tenant="")
    harness.step()

    assert harness.found(tenant="b") == 0
    assert harness.found(tenant="a") == harness.found(tenant="") == 12


def test_only_full_pages_of_a_configured_prefix_are_found_by_all_tenants() -> None:
    harness = Harness()
    own = tuple(range(70, 80))
    harness.open((*PUBLIC, *own), tenant="a")
    harness.step()

    assert harness.found((*PUBLIC, *own), tenant="b") == 8
    assert harness.found((*PUBLIC, *own), tenant="a") == 16 + 4 * ((len(PUBLIC) + len(own) - 1) // 4 - 4)
    assert harness.found((*PUBLIC[4:], *own), tenant="b") == 0
    assert harness.found((99, *PUBLIC[1:], *own), tenant="b") == 0


def test_what_another_tenant_computed_after_a_configured_prefix_stays_its_own() -> None:
    harness = Harness()
    harness.open((*PUBLIC, *PROMPT), tenant="a")
    harness.open((*PUBLIC, *PROMPT), tenant="b")
    harness.step()

    first, second = harness.scheduler.sequences.values()
    assert first.pages[:2] == second.pages[:2]
    assert not set(first.pages[2:]) & set(second.pages[2:])


def test_switched_off_nothing_is_found() -> None:
    harness = Harness(sharing=False)
    harness.open()
    harness.step()

    assert harness.found() == 0
    assert harness.pool.idle_pages() == []


def test_sequences_that_fill_equal_pages_in_one_step_end_up_with_one_of_them() -> None:
    harness = Harness()
    first, second = harness.open(), harness.open()

    assert harness.step() == [first, second]
    assert first.pages[:3] == second.pages[:3]
    assert first.pages[3] != second.pages[3]
    assert harness.pool.num_free == harness.pool.num_usable - 5


def test_a_sequence_that_waits_for_rows_goes_on_with_what_another_filled_meanwhile() -> None:
    harness = Harness(prefill_chunk=6)
    running = harness.open((40,))
    harness.step()
    first, second = harness.open(), harness.open()

    assert harness.step() == [running, first]
    harness.step()
    assert harness.step() == [running, first, second]  # the first reads two tokens, the second what is not known yet
    assert harness.step() == [running, first, second]
    assert (first.num_found, second.num_found) == (0, 12)
    assert second.pages[:3] == first.pages[:3]


def test_what_finished_and_preempted_sequences_held_is_found_until_its_room_is_needed() -> None:
    harness = Harness(num_pages=10)
    sequence = harness.open()
    harness.step()
    harness.scheduler.preempt(sequence)
    assert harness.pool.num_free == harness.pool.num_usable
    assert harness.found() == 12
    harness.scheduler.remove(sequence.id)
    assert harness.found() == 12

    large = harness.open(tuple(range(60, 88)), "b")  # leaves two of the nine pages
    harness.step()
    harness.scheduler.remove(large.id)

    assert harness.prefixes.counters.evictions == 1
    assert harness.found() == 8


def test_the_least_recently_used_goes_first_and_children_before_their_parents() -> None:
    harness = Harness()
    first, second = harness.open(), harness.open(tuple(range(20, 34)))
    harness.step()
    a, b = first.pages[:3], second.pages[:3]
    for sequence in (first, second):
        harness.scheduler.remove(sequence.id)
    assert harness.pool.idle_pages() == [a[2], a[1], a[0], b[2], b[1], b[0]]

    assert harness.found(PROMPT[:9]) == 8

    assert harness.pool.idle_pages() == [a[2], b[2], b[1], b[0], a[1], a[0]]
    harness.scheduler.check_integrity()


def test_a_newcomer_that_finds_its_prompt_needs_room_for_the_rest_only() -> None:
    harness = Harness(num_pages=8)
    harness.open()
    harness.step()

    second = harness.open()  # three of its four pages are held by the first
    assert second in harness.step()
    assert harness.scheduler.num_preemptions == 0


def test_a_newcomer_that_does_not_fit_holds_nothing() -> None:
    harness = Harness(num_pages=6)
    harness.open()
    harness.step()
    waiting = harness.open((*PROMPT, *range(20, 40)))

    harness.step()

    assert (waiting.pages, waiting.num_cached, waiting.num_known_pages) == ([], 0, 0)


@pytest.mark.parametrize("fault", ["known page is written", "page of other tokens", "written page is known"])
def test_the_integrity_check_finds(fault: str) -> None:
    harness = Harness()
    sequence = harness.open()
    harness.step()
    if fault == "known page is written":
        sequence.num_cached = 11
    elif fault == "page of other tokens":
        sequence.token_ids[5] = 99
    else:
        sequence.num_known_pages = 2

    with pytest.raises(AssertionError, match=r"write|other tokens"):
        harness.scheduler.check_integrity()


@dataclass(frozen=True)
class Call:
    """One event in the life of the pool."""

    kind: str
    number: int


calls = st.builds(
    Call, st.sampled_from(["open", "open", "step", "step", "step", "draft", "close", "preempt"]), st.integers(0, 9)
)
BEGINNINGS = [PROMPT, PROMPT[:8], (*PROMPT[:8], *range(20, 30)), (*PUBLIC, *PROMPT), PUBLIC]


@settings(max_examples=200, deadline=None)
@given(st.integers(8, 24), st.integers(1, 9), st.lists(calls, max_size=50))
def test_any_order_of_events_keeps_the_pool_whole(num_pages: int, prefill_chunk: int, events: list[Call]) -> None:
    harness = Harness(num_pages, prefill_chunk)
    for call in events:
        running = list(harness.scheduler.sequences.values())
        if call.kind == "open":
            harness.open(BEGINNINGS[call.number % len(BEGINNINGS)], tenant="ab"[call.number % 2])
        elif call.kind == "step":
            harness.step(token=call.number % 3)
        elif running and call.kind == "draft":
            running[call.number % len(running)].draft = TokenTree.chain([90] * call.number)
        elif running and call.kind == "close":
            harness.scheduler.remove(running[call.number % len(running)].id)
        elif running:
            harness.scheduler.preempt(running[call.number % len(running)])
        harness.scheduler.check_integrity()
        _check_that_tenants_share_public_pages_only(harness)
        for sequence in list(harness.scheduler.sequences.values()):
            if len(sequence.token_ids) >= 4 * (num_pages - 2):  # a longer one would be refused
                harness.scheduler.remove(sequence.id)

    for sequence in list(harness.scheduler.sequences.values()):
        harness.scheduler.remove(sequence.id)
    harness.scheduler.check_integrity()
    assert harness.pool.num_free == harness.pool.num_usable


def _check_that_tenants_share_public_pages_only(harness: Harness) -> None:
    for one in harness.scheduler.sequences.values():
        for other in harness.scheduler.sequences.values():
            if one.request.tenant != other.request.tenant:
                shared = set(one.pages) & set(other.pages)
                assert shared <= set(one.pages[: one.num_public_pages])
