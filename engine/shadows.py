"""What drafters that cost next to nothing would have brought, had they drafted.

Verification leaves the text as it is, whatever is drafted. So a proposal that nobody verified can be held against the
tokens that are committed behind it, and says as much as one that was verified: scores without a cost for the target
(counterfactual feedback: 2510.20064, section 3). By verifiers under which the text depends on the drafts it is an
estimate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from engine.drafters.base import Drafter, DraftSession, DraftVerdict, DraftWork
from engine.session import Sequence
from engine.tree import TokenTree

SHADOW_NODES = 8
"""Of a proposal that is only scored."""
SHADOW_EVERY, SHADOW_SELDOM = 3, 12
"""Rounds from one proposal to the next, at least: next to nothing is not nothing. Twice as many after each one that
brought no more than what was drafted, up to the second.
"""
SHADOW_FROM = 6
"""Round of the first one: a short answer would gain nothing by it."""


@dataclass(frozen=True, slots=True)
class ShadowScore:
    """Rounds that a drafter was scored in, and the tokens that they would have committed."""

    num_rounds: int = 0
    num_tokens: int = 0


@dataclass(slots=True)
class _Scoring:
    """Of one drafter on one sequence."""

    proposed_at: int = -SHADOW_EVERY
    """Round of the last proposal."""
    every: int = SHADOW_EVERY
    tree: TokenTree | None = None
    """The open proposal."""
    behind: list[int] = field(default_factory=list)
    """What was committed behind the place where it stands."""
    num_drafted_for: int = 0
    """How much of that came first: what the round brought that it was made for."""


class Shadows:
    """Scores drafters on sequences that others draft for. One thread.

    A drafter may draft for a sequence and score on it: it knows it twice, here by the negative of its id.
    """

    def __init__(self, drafters: Mapping[str, Drafter]) -> None:
        self._drafters = drafters
        self._known: dict[int, dict[str, _Scoring]] = {}
        """Sequences and who is scored on them."""
        self._scores: defaultdict[int, dict[str, ShadowScore]] = defaultdict(dict)
        """Not yet taken."""

    def propose(self, sequences: Iterable[Sequence], length_of: Callable[[str, int], int]) -> None:
        """Every drafter that is to be scored on one of these, and has no proposal open, makes one.

        `length_of` (drafter, most): how many nodes its blocks have; a longer one would score what is not drafted.
        """
        due: defaultdict[str, list[Sequence]] = defaultdict(list)
        for sequence in sequences:
            is_time = sequence.round >= SHADOW_FROM and sequence.round % SHADOW_EVERY == 0
            if sequence.request.shadows and sequence.can_draft and is_time:
                for name, scoring in self._meet(sequence).items():
                    is_due = scoring.tree is None and sequence.round >= scoring.proposed_at + scoring.every
                    if is_due and name != sequence.drafting.drafter:
                        due[name].append(sequence)
        for name, of_drafter in due.items():
            num_nodes = length_of(name, SHADOW_NODES)
            if num_nodes == 0:
                continue
            work = [DraftWork(-s.id, min(num_nodes, s.request.max_draft_nodes), s.round) for s in of_drafter]
            for sequence, tree in zip(of_drafter, self._drafters[name].propose(work), strict=True):
                scoring = self._known[sequence.id][name]
                scoring.tree, scoring.behind, scoring.proposed_at = tree, [], sequence.round

    def observe(self, verdicts: Iterable[DraftVerdict]) -> None:
        """Hold what was committed against the proposals."""
        told: defaultdict[str, list[DraftVerdict]] = defaultdict(list)
        for verdict in verdicts:
            for name, scoring in self._known.get(verdict.session_id, {}).items():
                told[name].append(DraftVerdict(-verdict.session_id, verdict.token_ids, 0))
                self._judge(name, scoring, verdict)
        for name, of_drafter in told.items():
            self._drafters[name].observe(of_drafter)

    def take(self, session_id: int) -> Mapping[str, ShadowScore]:
        """Scores of a sequence that were not taken before, by drafter."""
        return self._scores.pop(session_id, {})

    def close(self, session_id: int) -> None:
        """Forget a sequence; unknown ids are ignored."""
        for name in self._known.pop(session_id, {}):
            self._drafters[name].close([-session_id])
        self._scores.pop(session_id, None)

    def _meet(self, sequence: Sequence) -> Mapping[str, _Scoring]:
        if sequence.id not in self._known:
            self._known[sequence.id] = {name: _Scoring() for name in sequence.request.shadows}
            session = DraftSession(
                -sequence.id, tuple(sequence.token_ids), sequence.request.sampling, language=sequence.request.language
            )
            for name in sequence.request.shadows:
                self._drafters[name].open([session])
        return self._known[sequence.id]

    def _judge(self, name: str, scoring: _Scoring, verdict: DraftVerdict) -> None:
        """Done once the text has left the tree, or could not go on in it."""
        if scoring.tree is None:
            return
        if not scoring.behind:
            scoring.num_drafted_for = len(verdict.token_ids)
        scoring.behind += verdict.token_ids
        path = scoring.tree.follow(scoring.behind)
        if len(path) < len(scoring.behind) or not scoring.tree.goes_on_behind(path):
            so_far = self._scores[verdict.session_id].get(name, ShadowScore())
            score = ShadowScore(so_far.num_rounds + 1, so_far.num_tokens + len(path) + 1)
            self._scores[verdict.session_id][name] = score
            is_better = len(path) + 1 > scoring.num_drafted_for
            scoring.every = SHADOW_EVERY if is_better else min(2 * scoring.every, SHADOW_SELDOM)
            scoring.tree = None
