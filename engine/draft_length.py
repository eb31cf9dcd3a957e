"""How many nodes the next blocks get: as many as raise the tokens a second (goodput: SmartSpec, 2406.14066).

    tokens(k) = sum over sessions of 1 + r_i * (a_1 o_1 + ... + a_k o_k)
    time(k)   = step(rows, context) + wait(nodes)        (wait only if k > 0)
    step      = A * context + B * rows + C
    wait      = D * nodes + E

A block's nodes come likeliest first, so a block cut to k nodes is the drafter's best block of k. For each drafter,
a_j is how often its j-th node was accepted and o_j how often there was one; r_i says how much better a session fares
than the others. All are moving averages. A to E are least-squares fits over the last steps; the wait is the time that
the target stood still before a step for the blocks of a drafter, also while it drafted them itself. What the model does
not know (sessions out of step, drafters and target that share a processor) is in one factor for each `Mode`, the
measured tokens a second over the foretold; now and then another mode is tried to keep its factor true. The first steps
try blocks of all lengths in turn, or the fits could not tell a node's cost from a step's. Nothing of this touches the
text: verification is coupled to the target alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from engine.costs import TRUSTED_STEPS, Floats, StepCost, WaitCost

MAX_NODES = 64
"""Of a block; requests that allow more get no more."""
_HYSTERESIS = 1.02
"""What a change between drafting and not drafting must promise."""
_REEVALUATE_STEPS = 8
_CHANGED = 8
"""Lengths are chosen anew at once if the number of sessions changes by more than one part in so many."""
_EXPLORE_EVERY = 32
"""Of so many steps one has blocks of another length, so that the cost of a row can be told from that of a step."""
_PROBE_AFTER_STEPS, _PROBE_AT_LEAST_EVERY = 64, 4_000
"""After so many steps without drafts some are drafted, to learn whether that is still right; twice as many each time
that it was, and not just about."""
_NEARLY = 0.93
"""From this gain on it is just about right: what another look costs is little then."""
_TRY_OTHER_WINDOWS = 8
"""Of so many windows with drafts, one is spent in the other of the two modes."""
_TRUST_SESSION, _TRUST_WINDOW = 1 / 64, 0.25
"""Weight of a window's measurement, for each session in it and at most: few rounds say little."""
_TRUST_ASSUMED = 4
"""As how many windows counts what is assumed of a mode before it was measured."""
_TRUST_PROBE = 0.15
"""Weight of a window after a long time without drafts."""
_FORGET_NODE = 0.998
_HOPE = 0.25
"""Drafts seem better by this over the root of the rounds that were seen: what looks bad after few is tried on."""


class Mode(Enum):
    """What sessions that may draft do at present."""

    PLAIN = "plain"
    DRAFT = "draft"
    AHEAD = "draft ahead"
    """Drafters also use the time of a step to prepare the next block, which may slow the step."""


@dataclass(slots=True)
class NodeRates:
    """Of one drafter: how often its j-th node was there, and accepted when it was."""

    offered: Floats = field(default_factory=lambda: np.full(MAX_NODES, 4.0))
    rounds: Floats = field(default_factory=lambda: np.full(MAX_NODES, 4.0))
    accepted: Floats = field(default_factory=lambda: np.array([2.4 * 0.7**j for j in range(MAX_NODES)]))
    """As if four rounds had been seen, the first node accepted in 60 of 100 and each later one less."""

    def observe(self, limit: int, num_nodes: int, path: Sequence[int]) -> None:
        """A block that could have `limit` nodes had `num_nodes`; those of `path` were accepted."""
        self.rounds[:limit] *= _FORGET_NODE
        self.offered[:limit] *= _FORGET_NODE
        self.accepted[:limit] *= _FORGET_NODE
        self.rounds[:limit] += 1.0
        self.offered[:num_nodes] += 1.0
        self.accepted[list(path)] += 1.0

    def acceptance(self) -> Floats:
        """Of nodes that are there."""
        return self.accepted / self.offered

    def presence(self) -> Floats:
        return np.minimum(self.offered / self.rounds, 1.0)


@dataclass(slots=True)
class SessionRate:
    """How a session's accepted nodes compare with what its drafter's rates foretell."""

    accepted: float = 12.0
    foretold: float = 12.0
    """As if a dozen nodes had been accepted as foretold: a few rounds say little."""

    @property
    def ratio(self) -> float:
        return min(max(self.accepted / self.foretold, 0.2), 2.0)

    def observe(self, num_accepted: int, foretold: float) -> None:
        self.accepted = 0.95 * self.accepted + num_accepted
        self.foretold = 0.95 * self.foretold + foretold


@dataclass(slots=True)
class Drafting:
    """One session as the choice sees it."""

    drafter: str
    max_nodes: int
    """What the request allows; 0: it does not draft."""
    rate: SessionRate = field(default_factory=SessionRate)
    num_nodes: int = 0
    """What the next block gets."""


class DraftLengths:
    """Measures rounds and sets `Drafting.num_nodes` of all sessions. One engine, one thread."""

    def __init__(self, *, adapts: bool = True) -> None:
        """Without `adapts` every block may be as long as its request allows."""
        self._adapts = adapts
        self.cost = StepCost()
        self.chosen: Counter[int] = Counter()
        """How often each length was set, for metrics."""
        self._rates: defaultdict[str, NodeRates] = defaultdict(NodeRates)
        self._last_length: dict[str, int] = {}
        """Of each drafter's blocks, where there were any."""
        self._waits: defaultdict[str, WaitCost] = defaultdict(WaitCost)
        """For the blocks of each drafter."""
        self._truth = {Mode.PLAIN: 1.0, Mode.DRAFT: 1.0}
        """Measured over foretold rate."""
        self._ahead_gain = 1.0
        """Rate of drafting ahead over that of drafting."""
        self._num_measured: Counter[Mode] = Counter()
        self._foretold = 0.0
        """Rate foretold for the present window; 0: no window runs."""
        self._window_tokens = 0
        self._window_s = 0.0
        self._num_windows = 0
        self.mode = Mode.DRAFT
        self._probes = False
        """Whether it drafts only to measure."""
        self._countdown = 0
        self._num_steps = 0
        self._steps_without = 0
        self._probe_after = _PROBE_AFTER_STEPS
        self._last_sessions = 0

    def observe_step(self, num_rows: int, num_context: int, seconds: float) -> None:
        """A step without prefill took so long."""
        self.cost.observe(num_rows, num_context, seconds)

    def observe_tokens(self, num_tokens: int, seconds: float) -> None:
        """A step in which a session that may draft decodes gave so many tokens; with its wait it took so long."""
        self._window_tokens += num_tokens
        self._window_s += seconds
        self._countdown -= 1
        self._num_steps += 1
        self._steps_without = 0 if self.drafts else self._steps_without + 1

    def observe_wait(self, drafters: Collection[str], num_nodes: int, seconds: float) -> None:
        """The target stood still for so long before a step with blocks of these drafters, so long the longest."""
        for name in drafters:
            self._waits[name].observe(num_nodes, seconds / self.cost.pace)

    def observe_round(self, drafting: Drafting, num_nodes: int, path: Sequence[int]) -> None:
        """A block was verified."""
        rates = self._rates[drafting.drafter]
        foretold = float(rates.acceptance()[:num_nodes].sum())
        drafting.rate.observe(len(path), foretold)
        rates.observe(max(drafting.num_nodes, num_nodes), num_nodes, path)

    def first_length(self, drafter: str, max_nodes: int) -> int:
        """For a session that has not been measured: what its drafter's last one had."""
        return min(self._last_length.get(drafter, max_nodes), max_nodes) if self.drafts else 0

    @property
    def drafts(self) -> bool:
        """Whether blocks are asked for at present."""
        return self.mode is not Mode.PLAIN

    def choose(self, sessions: Iterable[Drafting], num_plain: int, num_context: int) -> None:
        """Set the lengths; `num_plain` more sequences decode without drafts."""
        drafting = [session for session in sessions if session.max_nodes > 0]
        if not drafting:
            return
        if not self._adapts:
            for session in drafting:
                session.num_nodes = session.max_nodes
                self.chosen[session.num_nodes] += 1
            return
        if self._countdown <= 0 or abs(len(drafting) - self._last_sessions) * _CHANGED > self._last_sessions:
            self._evaluate(drafting, num_plain, num_context)
            self._countdown, self._last_sessions = _REEVALUATE_STEPS, len(drafting)
        for session in drafting:
            if (session.num_nodes > 0) is not self.drafts:  # it was not there when lengths were last chosen
                session.num_nodes = self.first_length(session.drafter, session.max_nodes)
        if self._is_new:
            for session in drafting:
                session.num_nodes = session.max_nodes - self._num_steps % session.max_nodes
        elif self.drafts and self._num_steps % _EXPLORE_EVERY == 0:
            self._countdown = 0
            for session in drafting:
                most = min(session.num_nodes + 2, session.max_nodes)
                session.num_nodes = 1 + self._num_steps // _EXPLORE_EVERY % most
        for session in drafting:
            self.chosen[session.num_nodes] += 1

    def _evaluate(self, drafting: Sequence[Drafting], num_plain: int, num_context: int) -> None:
        self._close_window()
        per_context, per_row, per_step = self.cost.fit()
        fixed_s = per_step + per_context * num_context
        rates = {name: self._rates[name] for name in {session.drafter for session in drafting}}
        num_rows = len(drafting) + num_plain
        tokens_K, rows_K = self._drafted(drafting)
        per_node, per_block = self._wait_for(rates)
        per_node /= len(drafting)  # blocks are drafted side by side
        drafted_s = fixed_s + per_row * num_rows + per_block + (per_row + per_node) * rows_K
        rates_K = (num_rows + tokens_K) / np.maximum(drafted_s, 1e-9)
        drafted_rate, plain_rate = float(rates_K.max()), num_rows / max(fixed_s + per_row * num_rows, 1e-9)

        drafted_truth = self._truth[Mode.DRAFT] * max(self._ahead_gain, 1.0)
        num_seen = max(float(of.rounds[0]) for of in rates.values())
        gain = drafted_rate * drafted_truth / (plain_rate * self._truth[Mode.PLAIN]) * (1 + _HOPE / num_seen**0.5)
        wins = self._is_new or gain > (1 / _HYSTERESIS if self.drafts and not self._probes else _HYSTERESIS)
        self._probes = not wins and self._steps_without >= self._probe_after
        if wins or gain > _NEARLY:
            self._probe_after = _PROBE_AFTER_STEPS
        elif self._probes:
            self._probe_after = min(2 * self._probe_after, _PROBE_AT_LEAST_EVERY)
        self.mode = self._drafting_mode() if wins or self._probes else Mode.PLAIN
        # A further node pays as long as its tokens are worth its time at the best rate there is.
        self._set_lengths(drafting, drafted_rate * (per_row + per_node))
        foretold = drafted_rate if self.drafts else plain_rate
        self._foretold = 0.0 if self._is_new else foretold
        self._window_tokens, self._window_s = 0, 0.0

    def _set_lengths(self, drafting: Sequence[Drafting], least: float) -> None:
        """Blocks end where a node's expected tokens fall below `least`; none while nothing is drafted."""
        acceptance = {name: rates.acceptance().tolist() for name, rates in self._rates.items()}
        for session in drafting:
            session.num_nodes = 0
            if self.drafts:
                accepted = acceptance[session.drafter][: session.max_nodes]
                enough = least / session.rate.ratio
                length = next((j for j, rate in enumerate(accepted) if rate < enough), len(accepted))
                session.num_nodes = max(length, 1)
                self._last_length[session.drafter] = session.num_nodes

    def _drafted(self, drafting: Sequence[Drafting]) -> tuple[Floats, Floats]:
        """Of all sessions, with blocks of at most 1, 2, ... nodes: tokens beyond the target's own, and nodes."""
        groups: dict[tuple[str, int], list[Drafting]] = {}
        for session in drafting:
            groups.setdefault((session.drafter, session.max_nodes), []).append(session)
        most = max(max_nodes for _, max_nodes in groups)
        accepted_J, nodes_J = np.zeros(most), np.zeros(most)
        for (drafter, max_nodes), members in groups.items():
            of = self._rates[drafter]
            presence_J = of.presence()[:max_nodes]
            ratios = sum(member.rate.ratio for member in members)
            accepted_J[:max_nodes] += ratios * of.acceptance()[:max_nodes] * presence_J
            nodes_J[:max_nodes] += len(members) * presence_J
        return np.cumsum(accepted_J), np.cumsum(nodes_J)

    @property
    def _is_new(self) -> bool:
        """Whether too little is known to choose: blocks of all lengths are tried in turn."""
        return self._num_steps < TRUSTED_STEPS

    def _wait_for(self, drafters: Collection[str]) -> tuple[float, float]:
        """Seconds a node and a block of the slowest of these drafters."""
        fits = [self._waits[name].fit() for name in drafters if name in self._waits]
        return max((node for node, _ in fits), default=0.0), max((block for _, block in fits), default=0.0)

    def _drafting_mode(self) -> Mode:
        """The better of the two, and now and then the other."""
        self._num_windows += 1
        is_other = self._num_windows % _TRY_OTHER_WINDOWS == 0
        return Mode.AHEAD if (self._ahead_gain > 1.0) != is_other else Mode.DRAFT

    def _close_window(self) -> None:
        """Compare what a window gave with what was foretold for it."""
        if self._countdown <= 0 and self._foretold > 0 and self._window_s > 0:
            measured = self._window_tokens / (self._window_s / self.cost.pace) / self._foretold
            measured = min(max(measured, 0.1), 2.0)
            weight = min(_TRUST_SESSION * self._last_sessions, _TRUST_WINDOW)
            weight = max(weight, 1 / (_TRUST_ASSUMED + self._num_measured[self.mode]), _TRUST_PROBE * self._probes)
            self._num_measured[self.mode] += 1
            if self.mode is Mode.AHEAD:
                self._ahead_gain += weight * (measured / self._truth[Mode.DRAFT] - self._ahead_gain)
            else:
                self._truth[self.mode] += weight * (measured - self._truth[self.mode])
