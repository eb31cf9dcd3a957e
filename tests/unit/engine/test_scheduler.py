"""When a step starts, who runs in it, and who gives way when pages run out. Time is an argument here."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.pages import PagePool
from engine.sampling import SamplingParams
from engine.scheduler import GATHER_SHARE, Plan, Scheduler, SchedulerConfig
from engine.session import LocalDrafting, OpenRequest, Sequence
from engine.tree import TokenTree

STEP_S = 1.0
DEADLINE_S = 10.0


def _scheduler(num_pages: int = 100, max_rows: int = 64, max_running: int = 64) -> Scheduler:
    config = SchedulerConfig(
        max_rows=max_rows, max_running=max_running, prefill_chunk=8, draft_deadline_s=DEADLINE_S, max_context=1000
    )
    scheduler = Scheduler(config, PagePool(num_pages, page_size=4))
    scheduler.predicted_step_s = STEP_S
    return scheduler


def _add(scheduler: Scheduler, number: int, length: int = 5, tenant: str = "", local: bool = False) -> Sequence:
    """A sequence between rounds: all but its last token are in the pool."""
    request = OpenRequest(
        number,
        tuple(range(length)),
        length,
        SamplingParams(),
        500,
        tenant=tenant,
        local=LocalDrafting() if local else None,
    )
    sequence = Sequence.open(request, number, now_s=0.0)
    sequence.append([7])
    assert scheduler.pool.grow(sequence.pages, length + 1)
    sequence.num_cached, sequence.admitted = length, True
    scheduler.sequences[number] = sequence
    return sequence


def _give_block(sequence: Sequence, now_s: float, num_nodes: int = 2) -> None:
    sequence.draft, sequence.ready_since_s = TokenTree.chain([1] * num_nodes), now_s


def _ids(plan: Plan) -> list[int]:
    return [work.sequence.id for work in plan.work]


def test_a_step_starts_at_once_when_every_block_is_there() -> None:
    scheduler = _scheduler()
    for number in (1, 2):
        _give_block(_add(scheduler, number), now_s=1.0)

    assert _ids(scheduler.plan(1.0)) == [1, 2]


def test_the_oldest_block_waits_for_others_at_most_a_share_of_a_step() -> None:
    scheduler = _scheduler()
    _give_block(_add(scheduler, 1), now_s=1.0)
    late = _add(scheduler, 2)

    waiting = scheduler.plan(1.05)
    assert not waiting.work
    assert waiting.wait_s == pytest.approx(GATHER_SHARE * STEP_S - 0.05)
    assert _ids(scheduler.plan(1.0 + GATHER_SHARE * STEP_S)) == [1]
    assert late.sat_out


def test_a_sequence_that_sat_out_runs_undrafted_in_the_next_step() -> None:
    scheduler = _scheduler()
    _give_block(_add(scheduler, 1), now_s=1.0)
    _add(scheduler, 2)
    scheduler.plan(2.0)

    plan = scheduler.plan(3.0)

    assert _ids(plan) == [1, 2]
    assert [work.late_draft for work in plan.work] == [False, True]
    assert len(plan.work[1].tree) == 0


def test_a_lonely_sequence_waits_for_its_block_until_the_deadline() -> None:
    scheduler = _scheduler()
    _add(scheduler, 1)

    assert scheduler.plan(4.0).wait_s == pytest.approx(DEADLINE_S - 4.0)
    assert _ids(scheduler.plan(DEADLINE_S)) == [1]


def test_nothing_to_do_waits_for_input() -> None:
    assert _scheduler().plan(0.0) == Plan(wait_s=None)


def test_decoding_comes_before_prefill_and_both_keep_to_the_rows() -> None:
    scheduler = _scheduler(max_rows=6)
    newcomer = Sequence.open(
        OpenRequest(1, tuple(range(20)), 20, SamplingParams(), 500, local=LocalDrafting()), arrival=0, now_s=0.0
    )
    scheduler.sequences[1] = newcomer
    _give_block(_add(scheduler, 2), now_s=0.0)

    plan = scheduler.plan(1.0)

    assert [(work.sequence.id, work.num_tokens, len(work.tree)) for work in plan.work] == [(2, 1, 2), (1, 3, 0)]
    assert not plan.work[1].completes


def _newcomer(scheduler: Scheduler, number: int, length: int) -> Sequence:
    """A sequence that is not admitted yet; no two begin alike."""
    token_ids = tuple(range(1000 * number, 1000 * number + length))
    request = OpenRequest(number, token_ids, length, SamplingParams(), 500, local=LocalDrafting())
    sequence = scheduler.sequences[number] = Sequence.open(request, number, now_s=0.0)
    return sequence


def _read(scheduler: Scheduler, now_s: float) -> dict[int, int]:
    """Plan a step and read what it plans, without committing anything; the rows of each sequence."""
    plan = scheduler.plan(now_s)
    for work in plan.work:
        work.sequence.append([7] if work.completes else [])
        work.sequence.num_cached += work.num_tokens
    return {work.sequence.id: work.num_tokens + len(work.tree) for work in plan.work}


def test_however_many_prompts_wait_a_running_sequence_never_waits_for_more_than_a_chunk() -> None:
    scheduler = _scheduler(num_pages=1000)
    _add(scheduler, 1, local=True)
    prompts = [_newcomer(scheduler, number, length=100) for number in range(2, 10)]
    finished: list[int] = []

    for step in range(100):
        rows = _read(scheduler, float(step))
        assert rows.pop(1) == 1
        # Those that have read their prompts are running.
        assert all(rows.pop(number) == 1 for number in finished)
        finished += [s.id for s in prompts if s.num_pending == 1 and s.id not in finished]
        assert sum(rows.values()) == 8

    assert finished == [2, 3, 4, 5, 6, 7, 8, 9]  # 800 tokens in 100 chunks


def test_a_chunk_goes_to_the_oldest_prompt_and_its_rest_to_the_next() -> None:
    scheduler = _scheduler()
    _add(scheduler, 1, local=True)
    _newcomer(scheduler, 2, length=11)
    _newcomer(scheduler, 3, length=3)
    _newcomer(scheduler, 4, length=9)

    assert _read(scheduler, 1.0) == {1: 1, 2: 8}
    assert _read(scheduler, 2.0) == {1: 1, 2: 3, 3: 3, 4: 2}


def test_prefill_takes_all_rows_when_nobody_is_running() -> None:
    scheduler = _scheduler()
    _newcomer(scheduler, 1, length=90)
    _newcomer(scheduler, 2, length=20)

    assert _read(scheduler, 1.0) == {1: 64}
    assert _read(scheduler, 2.0) == {1: 26, 2: 20}


def test_a_running_sequence_that_waits_for_its_block_keeps_prefill_to_a_chunk() -> None:
    scheduler = _scheduler()
    _add(scheduler, 1)
    _newcomer(scheduler, 2, length=90)

    assert _read(scheduler, 1.0) == {2: 8}


def test_drafts_leave_rows_to_every_running_sequence_and_to_prefill() -> None:
    scheduler = _scheduler(max_rows=16)
    for number in (1, 2, 3):
        _give_block(_add(scheduler, number), now_s=0.0, num_nodes=9)
    _newcomer(scheduler, 4, length=90)

    assert _read(scheduler, 1.0) == {1: 10, 2: 1, 3: 1, 4: 4}


def test_without_pages_a_draft_is_dropped_first() -> None:
    scheduler = _scheduler(num_pages=3)  # two to give away
    sequence = _add(scheduler, 1, length=7)
    _give_block(sequence, now_s=0.0, num_nodes=3)

    (work,) = scheduler.plan(1.0).work

    assert len(work.tree) == 0
    assert sequence.admitted


def test_the_youngest_of_the_tenant_with_most_pages_gives_way() -> None:
    scheduler = _scheduler(num_pages=8)
    _add(scheduler, 1, length=8, tenant="small", local=True)  # needs no new page
    _add(scheduler, 2, length=7, tenant="large", local=True)
    oldest_of_large = scheduler.sequences[2]
    youngest = _add(scheduler, 3, length=7, tenant="large", local=True)
    oldest_of_large.append([8])
    oldest_of_large.num_cached += 1

    plan = scheduler.plan(1.0)

    assert _ids(plan) == [1, 2]
    assert not youngest.admitted
    assert youngest.num_cached == 0
    scheduler.check_integrity()


def test_a_preempted_sequence_comes_back_before_younger_ones() -> None:
    scheduler = _scheduler(num_pages=5)
    older = _add(scheduler, 1, local=True)
    scheduler.preempt(older)
    scheduler.sequences[2] = Sequence.open(
        OpenRequest(2, (1, 2), 2, SamplingParams(), 5, local=LocalDrafting()), 2, 0.0
    )

    scheduler.plan(1.0)

    assert older.admitted
    scheduler.check_integrity()


def test_integrity_check_finds_a_page_with_two_owners() -> None:
    scheduler = _scheduler()
    first, second = _add(scheduler, 1), _add(scheduler, 2)
    second.pages[0] = first.pages[0]

    with pytest.raises(AssertionError, match="reference counts"):
        scheduler.check_integrity()


def _wait_for_a_place(scheduler: Scheduler, number: int, tenant: str, length: int = 5, weight: float = 1.0) -> Sequence:
    token_ids = tuple(range(1000 * number, 1000 * number + length))
    request = OpenRequest(
        number, token_ids, length, SamplingParams(), 500, tenant=tenant, weight=weight, local=LocalDrafting()
    )
    sequence = scheduler.sequences[number] = Sequence.open(request, number, now_s=0.0)
    return sequence


def _running_of(scheduler: Scheduler) -> dict[str, int]:
    return dict(Counter(s.request.tenant for s in scheduler.sequences.values() if s.is_running))


def test_one_tenant_may_have_all_places_until_another_wants_its_share() -> None:
    scheduler = _scheduler(max_running=4)
    for number in range(8):
        _wait_for_a_place(scheduler, number, "flooder")
    _read(scheduler, 1.0)
    assert _running_of(scheduler) == {"flooder": 4}

    for number in (8, 9, 10):
        _wait_for_a_place(scheduler, number, "victim")
    first = _read(scheduler, 2.0)

    assert _running_of(scheduler) == {"flooder": 2, "victim": 2}
    assert {8, 9} <= first.keys()
    assert [s.id for s in scheduler.sequences.values() if s.is_running and s.request.tenant == "flooder"] == [0, 1]
    for step in range(20):
        _read(scheduler, 3.0 + step)
    assert _running_of(scheduler) == {"flooder": 2, "victim": 2}
    assert scheduler.num_preemptions == 2
    scheduler.check_integrity()


def test_places_are_shared_by_weight() -> None:
    scheduler = _scheduler(max_running=8)
    for number in range(10):
        _wait_for_a_place(scheduler, number, "light", weight=1.0)
    _read(scheduler, 1.0)
    for number in range(10, 20):
        _wait_for_a_place(scheduler, number, "heavy", weight=3.0)
    _read(scheduler, 2.0)

    assert _running_of(scheduler) == {"light": 2, "heavy": 6}


def test_a_tenant_whose_sequences_hold_all_pages_gives_way_for_anothers_share() -> None:
    scheduler = _scheduler(num_pages=17)
    for number in range(8):
        _wait_for_a_place(scheduler, number, "flooder")  # two pages each
    _read(scheduler, 1.0)
    newcomer = _wait_for_a_place(scheduler, 8, "victim", length=20)  # six of its eight

    assert 8 in _read(scheduler, 2.0)

    assert newcomer.is_running
    scheduler.check_integrity()


def test_the_prompt_of_the_tenant_that_was_served_least_is_read_first() -> None:
    scheduler = _scheduler()
    _add(scheduler, 0, local=True, tenant="flooder")
    for number in (1, 2, 3):
        _wait_for_a_place(scheduler, number, "flooder", length=30)
    _read(scheduler, 1.0)
    _wait_for_a_place(scheduler, 4, "victim", length=6)
    _read(scheduler, 2.0)  # it begins level with the others

    assert _read(scheduler, 3.0)[4] == 6


def test_who_reads_slowly_holds_neither_a_place_nor_pages_that_others_need() -> None:
    scheduler = _scheduler(num_pages=9, max_running=2)
    slow = [_add(scheduler, number, local=True) for number in (1, 2)]
    for sequence in slow:
        sequence.credit_tokens = 0
    others = [_wait_for_a_place(scheduler, number, "", length=11) for number in (3, 4)]

    _read(scheduler, 1.0)

    assert all(sequence.is_running for sequence in others)
    assert not any(sequence.pages for sequence in slow)
    scheduler.check_integrity()
    for sequence in slow:
        sequence.credit_tokens = 10
    for sequence in others:
        scheduler.remove(sequence.id)
    assert _read(scheduler, 2.0).keys() == {1, 2}


ARRIVALS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 40), st.integers(1, 12), st.integers(0, 6)), max_size=30
)
"""Tenant, tokens of the prompt, tokens of the answer, steps before the next one comes."""


@settings(deadline=None)
@given(ARRIVALS, st.integers(2, 6), st.integers(14, 30))
def test_whoever_comes_is_served_to_the_end(
    arrivals: list[tuple[str, int, int, int]], max_running: int, num_pages: int
) -> None:
    scheduler = _scheduler(num_pages=num_pages, max_running=max_running)
    left: dict[int, int] = {}
    coming = deque(arrivals)
    pause, number = 0, 0

    for step in range(5_000):
        while coming and pause == 0:
            tenant, length, answer, pause = coming.popleft()
            _wait_for_a_place(scheduler, number, tenant, length, weight={"a": 1.0, "b": 2.0, "c": 0.5}[tenant])
            left[number] = answer
            number += 1
        pause = max(pause - 1, 0)
        plan = scheduler.plan(float(step))
        assert plan.work or not left, "somebody is there and nobody runs"
        assert sum(scheduler_sequence.is_running for scheduler_sequence in scheduler.sequences.values()) <= max_running
        for work in plan.work:
            work.sequence.append([7] if work.completes else [])
            work.sequence.num_cached += work.num_tokens
            scheduler.prefixes.register(work.sequence)
            left[work.sequence.id] -= work.completes
            if left[work.sequence.id] == 0:
                scheduler.remove(work.sequence.id)
                del left[work.sequence.id]
        scheduler.check_integrity()
        if not left and not coming:
            return
    raise AssertionError(f"not served after 5,000 steps: {left}")


def _with_a_lent_place(fixed_rows: float) -> Scheduler:
    """Tenant "b" has one of two places that "a" leaves free besides its own two."""
    scheduler = _scheduler(max_running=4)
    scheduler.fixed_rows = fixed_rows
    for number, tenant in enumerate("abbb"):
        _add(scheduler, number, tenant=tenant, local=True)
    return scheduler


@pytest.mark.parametrize(("fixed_rows", "planned"), [(0.0, [0, 1, 2]), (4.0, [0, 1, 2, 3])])
def test_who_runs_in_a_lent_place_makes_steps_only_a_little_longer(fixed_rows: float, planned: list[int]) -> None:
    assert sorted(_ids(_with_a_lent_place(fixed_rows).plan(0.0))) == planned


def test_places_that_nobody_else_could_want_are_not_lent() -> None:
    scheduler = _with_a_lent_place(fixed_rows=0.0)
    scheduler.remove(0)

    assert sorted(_ids(scheduler.plan(0.0))) == [1, 2, 3]


def test_a_prompt_in_a_lent_place_is_read_in_small_pieces() -> None:
    scheduler = _with_a_lent_place(fixed_rows=17.0)
    scheduler.sequences[3].num_cached = 0

    lengths = {work.sequence.id: work.num_tokens for work in scheduler.plan(0.0).work}

    assert lengths == {0: 1, 1: 1, 2: 1, 3: 3}  # 0.15 of 3 rows and what costs as much as 17


def test_a_block_in_a_lent_place_hurries_nobody() -> None:
    scheduler = _scheduler(max_running=4)
    for number, tenant in enumerate("abbb"):
        _add(scheduler, number, tenant=tenant)
    _give_block(scheduler.sequences[3], now_s=1.0)
    _give_block(scheduler.sequences[0], now_s=2.0)

    assert not scheduler.plan(2.0).work  # the block of 0 waits for those of 1 and 2
    assert scheduler.plan(2.0 + GATHER_SHARE * STEP_S).work
