"""Which sequences run in the next step, with how many tokens and which drafts. Pure: the clock is an argument.

Who runs at all: the tenant with the fewest places for its weight is let in first, and one below its share of places or
pages preempts another above its own. Order in a step: running sequences before prefill, the tenant that was served
least first, of its sequences the oldest, under a budget of rows. While a sequence is running, prefill takes at most one
chunk of a step, however many prompts wait. Places that others leave free are lent, but what runs there comes last and
may make a step only a little longer. When KV pages run out: pages that nobody holds are evicted, then a draft is
dropped, then the youngest sequence of the tenant that holds most for its weight is preempted and computed again later
with the same text (by invariance).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

from engine.fair_share import FairShare
from engine.pages import PageId, PagePool, num_pages_for
from engine.prefixes import PrefixIndex
from engine.rows import RowBudget
from engine.session import Sequence
from engine.tree import TokenTree

GATHER_SHARE = 0.15
"""A step waits for missing blocks at most this share of its own predicted time."""

LENT_SHARE = 0.15
"""Sequences beyond their tenants' shares of places may make a step longer by so much."""


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    max_rows: int = 256
    """Packed rows of one step."""
    max_running: int = 64
    """Sequences that run at once; others wait for a place. One whose reader is slow takes none meanwhile."""
    prefill_chunk: int = 64
    """Tokens prefilled in one step, of all sequences together, while another sequence is running."""
    draft_deadline_s: float = 0.25
    """After this long without a block a round runs undrafted, also when nothing else is there to run."""
    max_context: int = 2048
    prefix_sharing: bool = True
    """Whether sequences of a tenant share full pages of equal beginnings."""
    shared_prefixes: tuple[tuple[int, ...], ...] = ()
    """Beginnings that sequences of all tenants share."""


@dataclass(frozen=True, slots=True)
class Work:
    """One sequence's part of a step."""

    sequence: Sequence
    num_tokens: int
    """Pending tokens to read."""
    tree: TokenTree
    late_draft: bool = False
    had_block: bool = False
    """Whether a block had come, be it empty."""

    @property
    def completes(self) -> bool:
        """Whether all pending tokens are read, so that a token can be chosen."""
        return self.num_tokens == self.sequence.num_pending


@dataclass(frozen=True, slots=True)
class Plan:
    """The next step (`work` may be empty), or how long to wait for something to happen."""

    work: tuple[Work, ...] = ()
    wait_s: float | None = None
    """Without work: seconds until a deadline passes; None: until new input."""


@dataclass(frozen=True, slots=True)
class _Shortage:
    """Places or pages that a sequence waits for."""

    holders: SequenceOf[Sequence]
    held: Counter[str]
    """By tenant."""
    wanted: int
    total: int


@dataclass(slots=True)
class Scheduler:
    """Decides; owns the pages' distribution but no tensor."""

    config: SchedulerConfig
    pool: PagePool
    sequences: dict[int, Sequence] = field(default_factory=dict)
    predicted_step_s: float = 0.0
    """Moving average of step times; the engine feeds it."""
    fixed_rows: float = 0.0
    """A step takes as long for what is not rows as for so many rows; the engine feeds it."""
    num_preemptions: int = 0
    prefixes: PrefixIndex = field(init=False)
    shares: FairShare = field(default_factory=FairShare)

    def __post_init__(self) -> None:
        self.prefixes = PrefixIndex(self.pool, self.config.shared_prefixes, self.config.prefix_sharing)

    def can_ever_hold(self, num_tokens: int) -> bool:
        """Whether a sequence of this length fits the pool alone."""
        return num_pages_for(num_tokens, self.pool.page_size) <= self.pool.num_usable

    def num_draftable(self, sequence: Sequence) -> int:
        """Drafted tokens that its next round could commit, beside one of the target's own."""
        return max(min(sequence.num_remaining, self.config.max_context - len(sequence.token_ids)) - 1, 0)

    def plan(self, now_s: float) -> Plan:
        """Decide the next step. Takes pages for what it plans; marks sequences that sit out."""
        self.shares.update({s.request.tenant: s.request.weight for s in self.sequences.values()})
        self._admit()
        active = [sequence for sequence in self._by_age() if sequence.is_running]
        late = {sequence.id for sequence in active if self._is_late(sequence, now_s)}
        runnable = [s for s in active if not s.awaits_block or s.id in late]
        missing = [s for s in active if s.awaits_block and s.id not in late]
        beyond = self._beyond_shares(active)
        within = [sequence for sequence in runnable if sequence.id not in beyond]
        wait_s = self._wait_s(within or runnable, missing, now_s)
        if not runnable or (wait_s is not None and wait_s > 0):
            return Plan(wait_s=wait_s)
        for sequence in missing:
            sequence.sat_out = True
        num_running = sum(sequence.num_pending == 1 for sequence in active)
        return Plan(work=tuple(self._assign(runnable, late, beyond, num_running)))

    def preempt(self, sequence: Sequence) -> None:
        """Take all pages back; the sequence waits and is computed again from its tokens."""
        self._release_pages(sequence)
        sequence.admitted = False
        self.num_preemptions += 1

    def remove(self, session_id: int) -> None:
        """Forget a sequence and free its pages; unknown ids are ignored."""
        sequence = self.sequences.pop(session_id, None)
        if sequence is not None:
            self.pool.shrink(sequence.pages, 0)

    def check_integrity(self) -> None:
        """Raise AssertionError unless pages and counters agree."""
        self.pool.check_integrity([sequence.pages for sequence in self.sequences.values()])
        self.prefixes.check_integrity(self.sequences.values())
        for sequence in self.sequences.values():
            assert 0 <= sequence.num_cached < len(sequence.token_ids), (sequence.id, sequence.num_cached)
            held = len(sequence.pages) * self.pool.page_size
            assert sequence.num_cached <= held, f"sequence {sequence.id}: {sequence.num_cached} tokens in {held} slots"
            assert sequence.admitted or not sequence.pages, f"sequence {sequence.id} waits but holds pages"

    def _by_age(self) -> list[Sequence]:
        return sorted(self.sequences.values(), key=lambda sequence: sequence.arrival)

    def _admit(self) -> None:
        """Let waiting sequences in while there are places, and while their tokens' pages are known or free.

        The tenant with the fewest places for its weight comes first, of its sequences the oldest. One that finds no
        room keeps those behind it waiting, however small they are, unless its tenant has its share already.
        """
        passed: set[str] = set()
        while True:
            places = Counter(sequence.request.tenant for sequence in self._running())
            waiting = [s for s in self.sequences.values() if not s.admitted and not s.is_paused]
            waiting = [s for s in waiting if s.request.tenant not in passed]
            if not waiting:
                return
            sequence = min(waiting, key=lambda s: (places[s.request.tenant] / s.request.weight, s.arrival))
            tenant = sequence.request.tenant
            while not self._let_in(sequence):
                shortage = self._shortage(sequence)
                victim = self._victim_for(tenant, shortage)
                if victim is not None:
                    self.preempt(victim)
                elif shortage.held[tenant] < self.shares.share(tenant, shortage.total):
                    return
                else:
                    passed.add(tenant)
                    break

    def _let_in(self, sequence: Sequence) -> bool:
        """Give a waiting sequence its place and pages; False, with nothing changed, if there are none."""
        if len(self._running()) >= self.config.max_running:
            return False
        self.prefixes.extend(sequence)
        if self._num_wanted_pages(sequence) - len(sequence.pages) > self.pool.num_free:
            self._release_pages(sequence)
            return False
        self.pool.grow(sequence.pages, len(sequence.token_ids))
        sequence.admitted = True
        self.prefixes.counters.lookups += 1
        return True

    def _num_wanted_pages(self, sequence: Sequence) -> int:
        """For its tokens, and one page more, so that a newcomer is not preempted at once."""
        return min(num_pages_for(len(sequence.token_ids), self.pool.page_size) + 1, self.pool.num_usable)

    def _running(self) -> list[Sequence]:
        return [sequence for sequence in self.sequences.values() if sequence.is_running]

    def _shortage(self, newcomer: Sequence) -> _Shortage:
        """What a sequence that could not be let in waits for."""
        running = self._running()
        if len(running) >= self.config.max_running:
            held = Counter(sequence.request.tenant for sequence in running)
            return _Shortage(running, held, 1, self.config.max_running)
        holders = [sequence for sequence in self.sequences.values() if sequence.pages]
        held = Counter({tenant: len(pages) for tenant, pages in _pages_by_tenant(holders).items()})
        return _Shortage(holders, held, self._num_wanted_pages(newcomer), self.pool.num_usable)

    def _victim_for(self, tenant: str, shortage: _Shortage) -> Sequence | None:
        """Who gives way to a newcomer of a tenant; None: it waits.

        One whose reader is slow, else the youngest of the tenant most above its share, if the newcomer's stays within
        its own. So both stay on their side of their shares, and nobody preempts back.
        """
        if paused := [sequence for sequence in shortage.holders if sequence.is_paused]:
            return max(paused, key=lambda s: s.arrival)
        if shortage.held[tenant] + shortage.wanted > self.shares.share(tenant, shortage.total):
            return None
        over = self.shares.most_over(shortage.held, shortage.total)
        return max((s for s in shortage.holders if s.request.tenant == over), key=lambda s: s.arrival, default=None)

    def _release_pages(self, sequence: Sequence) -> None:
        self.pool.shrink(sequence.pages, 0)
        sequence.num_cached = sequence.num_known_pages = sequence.num_found = 0

    def _is_late(self, sequence: Sequence, now_s: float) -> bool:
        """Whether a missing block is no longer waited for: sat out once, or waited a whole deadline."""
        if not sequence.awaits_block:
            return False
        return sequence.sat_out or now_s - sequence.waiting_since_s >= self.config.draft_deadline_s

    def _wait_s(self, runnable: list[Sequence], missing: list[Sequence], now_s: float) -> float | None:
        """Seconds to wait for missing blocks; 0 starts now; None: nothing to wait for."""
        if not missing:
            return None
        deadline_s = min(s.waiting_since_s for s in missing) + self.config.draft_deadline_s - now_s
        if not runnable:
            return max(deadline_s, 0.0)
        oldest_s = min(max(s.ready_since_s, s.waiting_since_s) for s in runnable)
        gather_s = oldest_s + GATHER_SHARE * self.predicted_step_s - now_s
        return max(min(gather_s, deadline_s), 0.0)

    def _beyond_shares(self, active: SequenceOf[Sequence]) -> set[int]:
        """Of each tenant, oldest first, those that run in more places than its share."""
        places: Counter[str] = Counter()
        beyond = set()
        for sequence in active:
            tenant = sequence.request.tenant
            places[tenant] += 1
            if places[tenant] > self.shares.share(tenant, self.config.max_running):
                beyond.add(sequence.id)
        return beyond

    def _assign(self, runnable: SequenceOf[Sequence], late: set[int], beyond: set[int], num_running: int) -> list[Work]:
        """Give each sequence rows and pages, in turn, decoding before prefill, those beyond their shares last."""
        prefill_rows = self.config.prefill_chunk if num_running else self.config.max_rows
        rows = RowBudget.of_step(self.config.max_rows, prefill_rows, [s.num_pending for s in runnable])
        work: list[Work] = []
        planned: set[int] = set()
        is_lent = False
        for sequence in sorted(runnable, key=lambda s: (s.id in beyond, *self._turn(s))):
            if not sequence.admitted:
                continue
            if sequence.id in beyond and work and not is_lent:
                is_lent = True
                rows.lend(int(LENT_SHARE * (self.config.max_rows - rows.total + self.fixed_rows)))
            self.prefixes.extend(sequence)  # others may have filled pages since it was admitted
            num_tokens = rows.tokens_for(sequence.num_pending)
            if num_tokens == 0:
                continue
            completes = num_tokens == sequence.num_pending
            tree = self._tree(sequence, rows.nodes_for(num_tokens)) if completes else TokenTree()
            if not self.pool.grow(sequence.pages, sequence.num_cached + num_tokens + len(tree)):
                tree = TokenTree()
                if not self._make_room(sequence, num_tokens, planned):
                    continue
            rows.take(sequence.num_pending, num_tokens, len(tree))
            self.shares.charge(sequence.request.tenant, num_tokens + len(tree))
            planned.add(sequence.id)
            had_block = completes and sequence.draft is not None
            work.append(Work(sequence, num_tokens, tree, sequence.id in late, had_block))
        return work

    def _turn(self, sequence: Sequence) -> tuple[bool, float, int]:
        """Whose turn in a step is next: the least."""
        return sequence.num_pending > 1, self.shares.served(sequence.request.tenant), sequence.arrival

    def _tree(self, sequence: Sequence, rows_left: int) -> TokenTree:
        """The sequence's block, cut to what can still be committed."""
        if sequence.draft is None or sequence.without_draft:
            return TokenTree()
        most = min(rows_left, max(sequence.drafting.num_nodes, 1))
        return sequence.draft.without_duplicate_siblings().truncated(most, self.num_draftable(sequence))

    def _make_room(self, sequence: Sequence, num_tokens: int, planned: set[int]) -> bool:
        """Preempt others until the tokens fit; False if the sequence itself is the one to go, or nobody is."""
        while not self.pool.grow(sequence.pages, sequence.num_cached + num_tokens):
            victim = self._victim(planned)
            if victim is None:
                return False
            self.preempt(victim)
            if victim is sequence:
                return False
        return True

    def _victim(self, planned: set[int]) -> Sequence | None:
        """Of those not yet planned for this step: one whose reader is slow, else the youngest of the tenant that holds
        most pages for its weight."""
        candidates = [s for s in self.sequences.values() if s.pages and s.id not in planned]
        held = _pages_by_tenant(candidates)
        return max(
            candidates,
            key=lambda s: (s.is_paused, len(held[s.request.tenant]) / s.request.weight, s.arrival),
            default=None,
        )


def _pages_by_tenant(sequences: SequenceOf[Sequence]) -> dict[str, set[PageId]]:
    held: dict[str, set[PageId]] = {}
    for sequence in sequences:
        held.setdefault(sequence.request.tenant, set()).update(sequence.pages)
    return held
