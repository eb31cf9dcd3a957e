"""The target's engine: continuous batching of verification rounds. `step` is the hot path."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from itertools import count

from engine.batch import WorkItem, slots_of
from engine.corrections import Correction
from engine.draft_length import DraftLengths, Mode
from engine.drafters.base import Drafter, DraftVerdict, UsesTarget
from engine.executor import Executor
from engine.local_drafting import LocalDrafters
from engine.logprobs import TokenLogprobs
from engine.model import TargetModel
from engine.numerics import Numerics
from engine.pages import PagePool
from engine.prefixes import PrefixCounters
from engine.scheduler import Scheduler, SchedulerConfig, Work
from engine.session import Finish, LocalDrafting, OpenRequest, Sequence
from engine.shadows import Shadows, ShadowScore
from engine.step_graphs import StaticSteps
from engine.target_view import EngineView
from engine.tree import TokenTree
from engine.verdicts import UNSOUND, Choice, choose
from engine.verify.verifiers import Verifier

STANDING_STILL = 0.1
"""Share of a step's time without one, from which on the engine waits for its drafters."""


class CannotServe(ValueError):
    """A sequence that this engine can never decode; the message is for the caller."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Sizes; the pool holds `num_pages` pages of `page_size` tokens, one of them the trash page."""

    num_pages: int = 1024
    page_size: int = 16
    numerics: Numerics = Numerics.INVARIANT
    cuda_graphs: bool = True
    """Whether decode steps on a CUDA device are captured; the tokens are the same."""
    measures_drafts: bool = True
    """Whether draft lengths follow what they are measured to bring; else blocks are as long as requests allow."""
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What one round committed for one sequence. `finish` closes it."""

    session_id: int
    base_length: int
    token_ids: tuple[int, ...]
    num_accepted: int
    num_drafted: int
    num_compared: int
    """Depths at which the target's choice met drafted tokens: `num_accepted`, and one more if all there were wrong.
    A drafted EOS that the target chose is in neither."""
    length: int
    hash: int
    round: int
    """Of the next verification."""
    draft_nodes: int
    """What the next block should have; 0: it is not waited for."""
    finish: Finish | None
    late_draft: bool
    draft_ahead: bool
    """Whether the drafter should prepare the block after the next: the engine stands still for blocks, and it pays."""
    num_found: int
    """Prompt tokens whose KV was found instead of computed, in a round that ends a prefill."""
    correction: Correction | None = None
    """Where the round's draft was overruled, if the sequence asks for it."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    """One a token, if the sequence asks for them."""
    drafter: str = ""
    """Whose block the round had, be it empty, or waited for; empty: it was not to be drafted."""
    seconds: float = 0.0
    """Since the sequence's last round, or since it could go on; what it waited for its block is in them."""
    plain_seconds: float = 0.0
    """Of such a step without any drafts, foretold; 0 while too little is known."""
    shadows: Mapping[str, ShadowScore] = field(default_factory=dict)
    """How drafters would have fared that the sequence has scored: what was found out since its last round."""


@dataclass(slots=True)
class EngineCounters:
    """Counts since the start, for metrics and tests."""

    steps: int = 0
    stale_drafts: int = 0
    late_drafts: int = 0
    failed: int = 0
    """Sequences for which the model gave no numbers."""
    committed_tokens: int = 0
    stepping_s: float = 0.0
    waiting_s: float = 0.0
    """Stood still although a sequence was there."""
    step_times_s: deque[float] = field(default_factory=lambda: deque(maxlen=10_000))
    """Of the last steps, until somebody takes them out."""
    prefixes: PrefixCounters = field(default_factory=PrefixCounters)


class Engine:
    """Decodes many sequences at once. Not thread-safe: one thread calls it (see `engine.loop`)."""

    def __init__(
        self,
        target: TargetModel,
        verifier: Verifier,
        config: EngineConfig,
        local_drafters: Mapping[str, Drafter] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """ValueError if the verifier may not judge what one of the drafters proposes, or it cannot draft with the
        target."""
        for name, drafter in (local_drafters or {}).items():
            verifier.check_lawful(drafter.law, is_greedy=False, drafter=name)
        self.target = target
        self.verifier = verifier
        self.config = config
        self.local_drafters = LocalDrafters(local_drafters or {})
        self.shadows = Shadows(local_drafters or {})
        self.clock = clock
        self.executor = Executor(target, config.numerics, config.num_pages, config.page_size)
        self.scheduler = Scheduler(config.scheduler, PagePool(config.num_pages, config.page_size))
        for drafter in (local_drafters or {}).values():
            if isinstance(drafter, UsesTarget):
                drafter.attach(EngineView(self.executor, self.scheduler))
        self.static_steps = self._static_steps() if target.device.type == "cuda" and config.cuda_graphs else None
        self.draft_lengths = DraftLengths(adapts=config.measures_drafts)
        self._ended_s = clock()
        """When the last step ended."""
        self._stood_still = False
        """Whether this step began later than it could have, had its blocks been there."""
        self.counters = EngineCounters(prefixes=self.scheduler.prefixes.counters)
        self._plain_s = 0.0
        """Foretold of this step, had it no drafts."""
        self._arrivals = count()
        self._moves: list[tuple[int, int]] = []
        """Slots whose KV this step's accepted paths leave, and where it belongs."""

    def _static_steps(self) -> StaticSteps | None:
        """Decode steps as CUDA graphs; a verifier that needs the law of the drafts is not captured, nor are shards."""
        if not self.verifier.judges_any_draft or self.target.group is not None:
            return None
        return StaticSteps(self.target, self.executor.cache, self.verifier, self.executor.min_rows, capture=True)

    # -- sessions ------------------------------------------------------------------------------------------------

    def open(self, request: OpenRequest) -> None:
        """Take a sequence on. Raises `CannotServe` if it can never be decoded here."""
        problem = request.problem(self.target.vocab_size, self.config.scheduler.max_context)
        if problem is not None:
            raise CannotServe(problem)
        most = min(request.prompt_length + request.max_tokens, self.config.scheduler.max_context)
        if not self.scheduler.can_ever_hold(most):
            raise CannotServe(f"{most} tokens do not fit the KV pool of {self.scheduler.pool.num_usable} pages")
        for method in (request.local.method if request.local is not None else "", *request.shadows):
            self._check_local(method)
        sequence = Sequence.open(request, next(self._arrivals), self.clock())
        sequence.drafting.num_nodes = self.draft_lengths.first_length(
            sequence.drafting.drafter, sequence.drafting.max_nodes
        )
        sequence.num_public_pages = self.scheduler.prefixes.num_public_pages(request.token_ids)
        self.scheduler.sequences[request.session_id] = sequence

    def _check_local(self, method: str) -> None:
        if method and method not in self.local_drafters:
            known = ", ".join(self.local_drafters.names) or "none"
            raise CannotServe(f"this target has no drafting method {method!r}; it has: {known}")

    def close(self, session_id: int) -> None:
        """Forget a sequence; its KV is free before the next step. Unknown ids are ignored."""
        self.scheduler.remove(session_id)
        self.local_drafters.close(session_id)
        self.shadows.close(session_id)

    def draft(self, session_id: int, base_length: int, base_hash: int, tree: TokenTree, drafter: str = "") -> bool:
        """Offer a block for the next round; False (and counted) if it builds on another sequence than ours.

        A block from outside also ends drafting by itself: from now on the sequence waits for blocks, and for those of
        `drafter` if it is named.
        """
        sequence = self.scheduler.sequences.get(session_id)
        if sequence is not None:
            sequence.draft_by(None, drafter)
        fits = (
            sequence is not None
            and self.verifier.judges_any_draft  # blocks from outside come without a law
            and base_length == len(sequence.token_ids)
            and base_hash == sequence.hash
            and tree.problem(self.target.vocab_size) is None
        )
        if sequence is None or not fits:
            self.counters.stale_drafts += 1
            return False
        sequence.draft = tree
        sequence.ready_since_s = self.clock()
        return True

    def draft_locally(self, session_id: int, local: LocalDrafting) -> None:
        """From now on this sequence drafts by itself; unknown ids are ignored, unknown methods are `CannotServe`."""
        self._check_local(local.method)
        if session_id in self.scheduler.sequences:
            self.scheduler.sequences[session_id].draft_by(local)

    def add_credit(self, session_id: int, num_tokens: int) -> None:
        """Let a sequence commit so many more tokens; unknown ids are ignored."""
        sequence = self.scheduler.sequences.get(session_id)
        if sequence is not None:
            if sequence.is_paused:
                sequence.waiting_since_s = self.clock()
            sequence.credit_tokens += num_tokens

    def shut_down(self) -> None:
        """Let the other ranks of a sharded target end; no step may follow."""
        self.executor.stop()

    # -- rounds --------------------------------------------------------------------------------------------------

    def step(self) -> tuple[list[StepOutcome], float | None]:
        """One round for every sequence that can run; without one, seconds until a deadline (None: until input)."""
        self._choose_lengths()
        self.local_drafters.draft(self.scheduler.sequences.values())
        self.shadows.propose(self.scheduler.sequences.values(), self.draft_lengths.first_length)
        plan = self.scheduler.plan(self.clock())
        if not plan.work:
            return [], plan.wait_s
        started_s = self.clock()
        wait_s = self._measure_wait(plan.work, started_s)
        choices = self._choose(plan.work)
        num_context = sum(len(item.sequence.token_ids) for item in plan.work)
        self._plain_s = self.draft_lengths.cost.foretell(len(plan.work), num_context)
        outcomes = self._commit(plan.work, choices)
        self._measure_step(plan.work, sum(len(outcome.token_ids) for outcome in outcomes), started_s, wait_s)
        return outcomes, 0.0

    def _choose_lengths(self) -> None:
        """How many nodes the next blocks get."""
        decoding = [sequence for sequence in self.scheduler.sequences.values() if sequence.can_draft]
        sessions = [sequence.drafting for sequence in decoding if sequence.drafting.max_nodes > 0]
        num_context = sum(len(sequence.token_ids) for sequence in decoding)
        self.draft_lengths.choose(sessions, len(decoding) - len(sessions), num_context)

    def _choose(self, work: SequenceOf[Work]) -> list[Choice]:
        """One packed pass over pending tokens and trees, and what the target commits where all tokens are read.

        A choice for each; those of prefill chunks that others follow have no tokens.
        """
        items = [
            WorkItem(
                token_ids=item.sequence.token_ids[
                    item.sequence.num_cached : item.sequence.num_cached + item.num_tokens
                ],
                num_cached=item.sequence.num_cached,
                pages=item.sequence.pages,
                tree=item.tree,
                wants_logits=item.completes,
            )
            for item in work
        ]
        choices = None if self.static_steps is None else self.static_steps.try_choose(items, work)
        if choices is not None:
            return choices
        logits_RV, sound_chunks = self.executor.run(items)
        chosen = iter(choose(self.verifier, logits_RV, [item for item in work if item.completes]))
        read = iter(Choice((), ()) if is_sound else UNSOUND for is_sound in sound_chunks)
        return [next(chosen if item.completes else read) for item in work]

    def _commit(self, work: SequenceOf[Work], choices: list[Choice]) -> list[StepOutcome]:
        """Advance every sequence by what was read and chosen."""
        outcomes: list[StepOutcome] = []
        for item, choice in zip(work, choices, strict=True):
            if not choice.is_sound and len(item.tree) > 0:
                item.sequence.without_draft = True  # once more: the draft may be what spoilt it
            elif not choice.is_sound:
                outcomes.append(self._give_up(item))
            elif item.completes:
                outcomes.append(self._commit_round(item, choice))
            else:
                item.sequence.num_cached += item.num_tokens
                self.scheduler.prefixes.register(item.sequence)
        self._keep_paths()
        verdicts = [
            DraftVerdict(o.session_id, o.token_ids, o.num_accepted, num_verified=o.num_drafted) for o in outcomes
        ]
        self.local_drafters.observe(verdicts)
        self.shadows.observe(verdicts)
        for outcome in outcomes:
            if outcome.finish is not None:
                self.close(outcome.session_id)
        self.counters.steps += 1
        return outcomes

    def _commit_round(self, item: Work, choice: Choice) -> StepOutcome:
        """Keep the KV of the accepted path and append its tokens and the target's own."""
        sequence = item.sequence
        base_length = len(sequence.token_ids)
        token_ids, finish = self._cut(sequence, choice.token_ids)
        num_accepted = min(len(choice.path), len(token_ids))
        path = choice.path[:num_accepted]
        self._plan_moves(sequence, base_length, path)
        if item.had_block:
            self.draft_lengths.observe_round(sequence.drafting, len(item.tree), path)
        sequence.append(token_ids)
        sequence.num_cached = len(sequence.token_ids) - 1
        self.scheduler.pool.shrink(sequence.pages, sequence.num_cached + 1)
        self.scheduler.prefixes.register(sequence)
        num_found, sequence.num_found = sequence.num_found, 0
        self.counters.prefixes.hit_tokens += num_found
        sequence.round += 1
        sequence.draft = None
        sequence.asked_nodes = sequence.drafting.num_nodes
        sequence.sat_out = sequence.without_draft = False
        now_s = self.clock()
        seconds, sequence.waiting_since_s = now_s - sequence.waiting_since_s, now_s
        self.counters.late_drafts += item.late_draft
        return StepOutcome(
            session_id=sequence.id,
            base_length=base_length,
            token_ids=tuple(token_ids),
            num_accepted=num_accepted,
            num_drafted=len(item.tree),
            num_compared=num_accepted + (path == choice.path and item.tree.goes_on_behind(path)),
            length=len(sequence.token_ids),
            hash=sequence.hash,
            round=sequence.round,
            draft_nodes=sequence.asked_nodes,
            finish=finish,
            late_draft=item.late_draft,
            draft_ahead=self._stood_still and self.draft_lengths.mode is Mode.AHEAD,
            num_found=min(num_found, sequence.request.prompt_length),
            correction=choice.correction(base_length, num_accepted),
            logprobs=choice.logprobs[: len(token_ids)],
            drafter=sequence.drafting.drafter if item.had_block or item.late_draft else "",
            seconds=seconds,
            plain_seconds=self._plain_s,
            shadows=self.shadows.take(sequence.id),
        )

    def _give_up(self, item: Work) -> StepOutcome:
        """End a sequence for which the model gave no numbers, with nothing of this round."""
        sequence = item.sequence
        self.counters.failed += 1
        return StepOutcome(
            session_id=sequence.id,
            base_length=len(sequence.token_ids),
            token_ids=(),
            num_accepted=0,
            num_drafted=0,
            num_compared=0,
            length=len(sequence.token_ids),
            hash=sequence.hash,
            round=sequence.round,
            draft_nodes=0,
            finish=Finish.FAILED,
            late_draft=item.late_draft,
            draft_ahead=False,
            num_found=0,
        )

    def _cut(self, sequence: Sequence, token_ids: tuple[int, ...]) -> tuple[list[int], Finish | None]:
        """The tokens up to EOS (left out) or the end of the answer, and why it ended."""
        room = min(sequence.num_remaining, self.config.scheduler.max_context - len(sequence.token_ids))
        kept: list[int] = []
        for token in token_ids:
            if token in self.target.eos_ids:
                return kept, Finish.EOS
            kept.append(token)
            if len(kept) == room:
                return kept, Finish.LENGTH
        return kept, None

    def _plan_moves(self, sequence: Sequence, base_length: int, path: tuple[int, ...]) -> None:
        """The KV of accepted nodes belongs at the positions after the root; a chain lies there already."""
        if path != tuple(range(len(path))):
            assert base_length >= sequence.num_known_pages * self.config.page_size, "a shared page was to move"
            slots = slots_of(sequence.pages, self.config.page_size, base_length + max(path) + 1)[base_length:].tolist()
            self._moves += [(slots[node], slots[place]) for place, node in enumerate(path)]

    def _keep_paths(self) -> None:
        """Move the KV of all sequences' accepted nodes at once."""
        if self._moves:
            self.executor.move(self._moves)
            self._moves.clear()

    def _measure_wait(self, work: SequenceOf[Work], started_s: float) -> float:
        """Seconds that the engine stood still before this step although a sequence of it was there."""
        since_s = max(self._ended_s, min(item.sequence.waiting_since_s for item in work))
        wait_s = max(started_s - since_s, 0.0)
        self._stood_still = wait_s > STANDING_STILL * self.scheduler.predicted_step_s
        drafted = [item for item in work if item.had_block]
        drafters = {item.sequence.drafting.drafter for item in drafted}
        self.draft_lengths.observe_wait(drafters, max((len(item.tree) for item in drafted), default=0), wait_s)
        return wait_s

    def _measure_step(self, work: SequenceOf[Work], num_tokens: int, started_s: float, wait_s: float) -> None:
        self._ended_s = self.clock()
        step_s = self._ended_s - started_s
        counters = self.counters
        counters.stepping_s += step_s
        counters.waiting_s += wait_s
        counters.committed_tokens += num_tokens
        counters.step_times_s.append(step_s)
        before_s = self.scheduler.predicted_step_s
        self.scheduler.predicted_step_s = step_s if before_s == 0.0 else 0.9 * before_s + 0.1 * step_s
        # A step of prefill alone takes as long with drafts as without, but is a larger part of fewer rounds.
        if any(item.num_tokens == 1 and item.sequence.drafting.max_nodes for item in work):
            self.draft_lengths.observe_tokens(num_tokens, wait_s + step_s)
        if all(item.num_tokens == 1 for item in work):  # prefill's rows cost less than others
            num_rows = sum(1 + len(item.tree) for item in work)
            num_context = sum(len(item.sequence.token_ids) for item in work)
            self.draft_lengths.observe_step(num_rows, num_context, step_s)
            self.scheduler.fixed_rows = self.draft_lengths.cost.fixed_rows(num_context)

    # -- state ---------------------------------------------------------------------------------------------------

    @property
    def num_sessions(self) -> int:
        return len(self.scheduler.sequences)

    @property
    def num_free_pages(self) -> int:
        return self.scheduler.pool.num_free

    @property
    def num_waiting(self) -> int:
        """Sequences without KV pages. May be asked from another thread: what is counted is a copy."""
        return sum(not sequence.admitted for sequence in list(self.scheduler.sequences.values()))

    @property
    def num_prefill_tokens(self) -> int:
        """Tokens of prompts that are not read yet. May be asked from another thread."""
        sequences = list(self.scheduler.sequences.values())
        return sum(sequence.num_pending for sequence in sequences if sequence.is_prefilling and not sequence.is_paused)

    def check_integrity(self) -> None:
        """Raise AssertionError unless pages, sequences and counters agree."""
        self.scheduler.check_integrity()
