"""Drafters that draft for each other (Cascade Speculative Drafting, 2312.11462; MaG is our `ngram`).

*Vertical*: what a cheaper drafter expects goes along in a dearer one's pass, which so tells several tokens at once. Its
proposal is the very same without, so its law is its own: the inner review is exact, with no leniency.
*Horizontal*: the first nodes of a block are the dearer drafter's, then the cheaper one goes on from its likeliest path.

How many nodes each has is worked out from what was measured: how often they are accepted, and what they cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from engine.drafters.allocation import Allocation, Judged
from engine.drafters.base import (
    Drafter,
    DraftLaw,
    DraftSession,
    DraftVerdict,
    DraftWork,
    TargetView,
    UsesTarget,
)
from engine.drafters.config import DrafterConfig
from engine.tree import TokenTree


@dataclass(frozen=True, slots=True)
class _Proposed:
    """What a session was proposed, so that its verdict can be laid to whom it concerns."""

    num_own: int
    """Nodes that the first drafter was to have."""
    own: TokenTree
    num_on_path: int
    """Tokens of the first one's likeliest path, behind which the second went on."""
    num_behind: int
    """Nodes that the second was to have."""
    tail: TokenTree
    at_s: float


def cascade_of(drafters: Sequence[Drafter], config: DrafterConfig) -> Drafter:
    """The drafters as one, the dearest first. ValueError for fewer than two."""
    if len(drafters) < 2:
        raise ValueError(f"a cascade of {len(drafters)} drafters is none; name two or more, the dearest first")
    *dearer, cascade = drafters
    for drafter in reversed(dearer):
        allocation = Allocation(config.hand_over_after)
        cascade = CascadeDrafter(
            drafter, cascade, config.max_nodes, eos_token_ids=config.eos_token_ids, allocation=allocation
        )
    return cascade


class CascadeDrafter:
    """Two drafters as one; the second may be a cascade again. See `Drafter` for the order of calls."""

    def __init__(
        self,
        first: Drafter,
        second: Drafter,
        max_nodes: int,
        *,
        eos_token_ids: Sequence[int] = (),
        num_guessed: int = 4,
        allocation: Allocation | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`num_guessed`: tokens of the second drafter that go along in the first one's pass."""
        self.placement, self.law = first.placement, first.law
        self._first, self._second = first, second
        self._max_nodes = max_nodes
        self._eos = frozenset(eos_token_ids)
        self._num_guessed = num_guessed
        self._allocation = allocation or Allocation()
        self._hands_over = first.law is DraftLaw.NONE  # what follows by another rule has not the first one's law
        self._clock = clock
        self._proposed: dict[int, _Proposed] = {}

    def attach(self, target: TargetView) -> None:
        """Those of the two that draft with the target get its view."""
        for drafter in (self._first, self._second):
            if isinstance(drafter, UsesTarget):
                drafter.attach(target)

    def open(self, sessions: Sequence[DraftSession]) -> None:
        self._first.open(sessions)
        self._second.open(sessions)

    def propose(self, work: Sequence[DraftWork]) -> list[TokenTree]:
        work = [replace(item, max_nodes=min(item.max_nodes, self._max_nodes)) for item in work]
        nums_own = [self._num_own(item.max_nodes) for item in work]
        own = self._own(work, nums_own)
        paths = [tree.likeliest_path() for tree in own]
        tails = self._tails(work, own, paths)
        for item, num_own, tree, path, tail in zip(work, nums_own, own, paths, tails, strict=True):
            num_behind = item.max_nodes - len(tree)
            self._proposed[item.session_id] = _Proposed(num_own, tree, len(path), num_behind, tail, self._clock())
        return [tree.grafted(path, tail) for tree, path, tail in zip(own, paths, tails, strict=True)]

    def _num_own(self, max_nodes: int) -> int:
        return self._allocation.num_own(max_nodes) if self._hands_over else max_nodes

    def _own(self, work: Sequence[DraftWork], nums_own: Sequence[int]) -> list[TokenTree]:
        """The first drafter's trees, with what the second expects as a hint."""
        trees = [TokenTree() for _ in work]
        asked = [index for index, num_own in enumerate(nums_own) if num_own > 0]
        hints = self._second.propose([replace(work[index], max_nodes=self._num_guessed) for index in asked])
        began_s = self._clock()
        hinted = [
            replace(work[index], max_nodes=nums_own[index], guess=hint.tokens_along(hint.likeliest_path()))
            for index, hint in zip(asked, hints, strict=True)
        ]
        for index, tree in zip(asked, self._first.propose(hinted) if hinted else (), strict=True):
            trees[index] = tree
        if asked:
            seconds = self._clock() - began_s
            self._allocation.observe_pass(max(nums_own), seconds)
        return trees

    def _tails(
        self, work: Sequence[DraftWork], own: Sequence[TokenTree], paths: Sequence[Sequence[int]]
    ) -> list[TokenTree]:
        """What the second drafter puts behind the likeliest paths."""
        if not self._hands_over:
            return [TokenTree() for _ in work]
        behind: list[DraftWork] = []
        for item, tree, path in zip(work, own, paths, strict=True):
            tokens = tree.tokens_along(path)
            is_over = tokens[-1:] != () and tokens[-1] in self._eos
            max_nodes = 0 if is_over else item.max_nodes - len(tree)
            behind.append(replace(item, max_nodes=max_nodes, assumed=item.assumed + tokens))
        return self._second.propose(behind)

    def observe(self, verdicts: Sequence[DraftVerdict]) -> None:
        for verdict in verdicts:
            proposed = self._proposed.pop(verdict.session_id, None)
            if proposed is not None:
                self._learn(proposed, verdict.token_ids[: verdict.num_accepted])
        self._first.observe(verdicts)
        self._second.observe(verdicts)

    def _learn(self, proposed: _Proposed, accepted: Sequence[int]) -> None:
        own = proposed.own.follow(accepted)
        is_reached = own == proposed.own.likeliest_path() and len(own) == proposed.num_on_path
        behind = proposed.tail.follow(accepted[len(own) :])
        self._allocation.observe_round(
            Judged(proposed.num_own, len(proposed.own), own),
            Judged(proposed.num_behind, len(proposed.tail), behind) if is_reached else None,
        )
        self._allocation.observe_wait(self._clock() - proposed.at_s)

    def prepare(self) -> bool:
        return self._first.prepare() or self._second.prepare()

    def close(self, session_ids: Sequence[int]) -> None:
        self._first.close(session_ids)
        self._second.close(session_ids)
        for session_id in session_ids:
            self._proposed.pop(session_id, None)
