"""Which way to draft pays for a request: learned from all requests before it, and from its own rounds.

An *arm* is a drafter, or none. What an arm is worth is its tokens a second:

    rate = tokens a round / seconds a round

Seconds belong to the arm and the machine; they are counted in what the same round would have taken without drafts,
which the target foretells, so that what is known of an arm that is seldom used keeps up with the load. Tokens belong to
the text: they are kept for each language and each task (a tenant), and a request believes that its text is like that of
one language or another (Hedge with a fixed share: Herbster and Warmuth 1998; for drafters 2510.20064). It begins by
believing in its own language, and follows what its rounds bring, so that a text that goes on in another language is
soon drafted for as such. On top of that stands what each arm brought in this very request, the latest rounds most.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

OFF_ARM = ""
"""Plain decoding: one token a round."""
_FORGET_TOKENS, _FORGET_SECONDS = 0.999, 0.98
_ASSUMED_SECONDS = 4.0
"""As how many rounds counts what is assumed of an arm's seconds."""
_FORGET_OWN = 0.95
"""Of a request's rounds: about the last twenty count."""
_TRUST_LANGUAGE = 20.0
"""As how many rounds of a task counts what its language foretells."""
_FIXED_SHARE = 0.02
"""Belief that is dealt out anew each round, as at first: a text may go on in another language."""
_SEEN = 12.0
"""How much likelier a language becomes by being seen in the answer's last words."""
_HARDLY_A_DOUBT = 0.95
_OWN_LANGUAGE = 0.9
"""Belief in the request's own language at first."""
_HOPE = 0.5
"""In standard errors of an arm's tokens, times sqrt(ln(rounds of all)): by so much it may be better than it seems."""
_HOPE_WITHIN = 0.3
"""Within a request, times the spread of what is foretold over the languages that its text may be in."""
_STRANGER_TOKENS, _STRANGER_ROUNDS = 1.2, 30.0
"""What is assumed of a drafter in a language that it is not configured for, and as how many rounds that counts."""
_ASSUMED_TOKENS, _ASSUMED_ROUNDS = 3.0, 4.0
"""The same in the languages that it is for: more than most bring, so that each is tried until it is known."""
_TRUST_ARM = 12.0
"""As how many rounds in a language counts what the arm brought in others that it is for."""
_HORIZON = 60
"""Tokens within which another arm must make up for its opening: what is further off is less sure."""
_DWELL = 4
"""Rounds that an arm is given to show what it brings."""
_LEAST_GAIN = 1.03
"""By which factor another arm must be better before it is worth its opening."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to draft that a request may take."""

    name: str
    """Of the drafter; `OFF_ARM`: none."""
    languages: frozenset[str] = frozenset()
    """That it is configured for; empty: for any."""
    seconds: float = 1.0
    """Of a round, assumed until it is measured, in rounds without drafts."""
    opening: float = 2.0
    """What changing to it costs, likewise: its prefill, and rounds without a draft until then."""
    trust: float = 30.0
    """As how many of a request's own rounds counts what language and task foretell: fewer if it is the text that
    matters.
    """

    def is_for(self, language: str) -> bool:
        """Whether it is configured for a language."""
        return not self.languages or language in self.languages


@dataclass(slots=True)
class _Average:
    """With exponential forgetting."""

    total: float = 0.0
    weight: float = 0.0

    def observe(self, value: float, forget: float) -> None:
        self.total = forget * self.total + value
        self.weight = forget * self.weight + 1.0

    def with_prior(self, mean: float, weight: float) -> float:
        """The mean if `weight` more values had been `mean`."""
        if math.isinf(weight):
            return mean
        return (self.total + weight * mean) / (self.weight + weight)


class ArmRecords:
    """What a router knows of its arms. One thread."""

    def __init__(self, arms: Sequence[Arm], languages: Sequence[str]) -> None:
        self.arms = {arm.name: arm for arm in arms}
        self.languages = tuple(languages)
        self._by_arm: defaultdict[str, _Average] = defaultdict(_Average)
        """In all languages that it is for."""
        self._by_language: defaultdict[tuple[str, str], _Average] = defaultdict(_Average)
        self._by_task: defaultdict[tuple[str, str, str], _Average] = defaultdict(_Average)
        self._log_seconds = {
            arm.name: _Average(_ASSUMED_SECONDS * math.log(arm.seconds), _ASSUMED_SECONDS) for arm in arms
        }
        """Of rounds, in plain ones."""
        self._openings = {arm.name: _Average(arm.opening, 1.0) for arm in arms}

    def tokens(self, language: str, task: str, arm: str) -> float:
        """To be expected of a round."""
        if arm == OFF_ARM:
            return 1.0
        mean = self._by_language[language, arm].with_prior(*self._assumed(language, arm))
        return self._by_task[task, language, arm].with_prior(mean, _TRUST_LANGUAGE)

    def _assumed(self, language: str, arm: str) -> tuple[float, float]:
        """Tokens a round and as how many rounds that counts."""
        if not self.arms[arm].is_for(language):
            return _STRANGER_TOKENS, _STRANGER_ROUNDS
        return self._by_arm[arm].with_prior(_ASSUMED_TOKENS, _ASSUMED_ROUNDS), _TRUST_ARM

    def seconds(self, arm: str) -> float:
        """Of a round, in those of a plain one."""
        return math.exp(self._log_seconds[arm].with_prior(0.0, 0.0)) if arm != OFF_ARM else 1.0

    def opening(self, arm: str) -> float:
        """What changing to an arm costs, in the same."""
        return self._openings[arm].with_prior(0.0, 0.0)

    def hope(self, language: str, task: str, arm: str) -> float:
        """Tokens a round by which an arm may be better than it seems: some standard errors, the more the later."""
        if arm == OFF_ARM:
            return 0.0
        mean = self.tokens(language, task, arm)
        rounds = self._by_language[language, arm].weight + self._assumed(language, arm)[1]
        of_all = sum(self._by_language[language, name].weight for name in self.arms)
        return _HOPE * math.sqrt(math.log1p(of_all) * mean * (mean - 1.0) / rounds)

    def observe_tokens(self, language: str, task: str, arm: str, tokens: int) -> None:
        """A round brought so many, or would have brought them."""
        if self.arms[arm].is_for(language):
            self._by_arm[arm].observe(tokens, _FORGET_TOKENS)
        self._by_language[language, arm].observe(tokens, _FORGET_TOKENS)
        self._by_task[task, language, arm].observe(tokens, _FORGET_TOKENS)

    def observe_seconds(self, arm: str, relative: float, *, is_opening: bool) -> None:
        """A round took so long, in plain rounds; the first one after a change also tells what the change cost."""
        usual = self.seconds(arm)
        if is_opening:
            self._openings[arm].observe(max(relative - usual, 0.0), _FORGET_SECONDS)
        elif arm != OFF_ARM:
            # In logarithms, and no further than this at once: a round that took ten times as long says something of
            # the machine, not of the arm.
            step = min(max(math.log(relative / usual), -1.0), 1.0)
            self._log_seconds[arm].observe(math.log(usual) + step, _FORGET_SECONDS)


@dataclass(slots=True)
class ArmUse:
    """What an arm did in one request."""

    rounds: int = 0
    tokens: int = 0
    seconds: float = 0.0
    shadow_rounds: int = 0
    """In which it was only scored: what it would have brought."""
    shadow_tokens: int = 0


@dataclass(slots=True)
class _Own:
    """Of one arm in one request."""

    tokens: _Average = field(default_factory=_Average)
    foretold: _Average = field(default_factory=_Average)
    use: ArmUse = field(default_factory=ArmUse)


class ArmChooser:
    """Chooses for one request, before it opens and after each of its rounds."""

    def __init__(self, records: ArmRecords, arms: Sequence[str], language: str, task: str) -> None:
        """`arms`: those that the request may take; it may always do without drafts."""
        self._records = records
        self._language, self._task = language, task
        self._own = {arm: _Own() for arm in (OFF_ARM, *arms)}
        others = [tag for tag in records.languages if tag != language]
        share = (1 - _OWN_LANGUAGE) / len(others) if others else 0.0
        self._at_first = {language: 1 - share * len(others)} | dict.fromkeys(others, share)
        self._beliefs = dict(self._at_first)
        self.num_changes = 0
        self._is_opening = True
        self._rounds_since_change = 0
        self._num_tokens = 0
        self.expected_at_first = {arm: self.expected_rate(arm) for arm in self._own}
        self.current = self.favourite = self._best_at_first(self._own)
        """`favourite`: what it would begin with if all arms could be taken."""

    def begin(self, available: Collection[str]) -> str:
        """The arm of the first round: the best of those that can be taken now, or none."""
        self.current = self._best_at_first([arm for arm in self._own if arm == OFF_ARM or arm in available])
        return self.current

    def _best_at_first(self, arms: Iterable[str]) -> str:
        return max(arms, key=lambda arm: self._rate(arm, self._records.hope(self._language, self._task, arm)))

    @property
    def uses(self) -> Mapping[str, ArmUse]:
        """By arm."""
        return {arm: own.use for arm, own in self._own.items()}

    def expected_tokens(self, arm: str) -> float:
        """Of a round of this request."""
        own, foretold = self._own[arm], self._foretold(arm)
        # What it brought against what was foretold then: that stands when the text goes on in another language.
        trust = self._records.arms[arm].trust * foretold
        return foretold * (own.tokens.total + trust) / (own.foretold.total + trust)

    def _foretold(self, arm: str) -> float:
        """By the languages that the text may be in."""
        return sum(belief * self._records.tokens(tag, self._task, arm) for tag, belief in self._beliefs.items())

    def expected_rate(self, arm: str) -> float:
        """Tokens in the time of a plain round."""
        return self._rate(arm, 0.0)

    def observe(
        self,
        tokens: int,
        seconds: float,
        plain_seconds: float,
        shadows: Mapping[str, int] | None = None,
        *,
        was_drafted: bool = True,
    ) -> None:
        """A round of the current arm: tokens that it committed; `shadows` are what other arms would have.

        `plain_seconds`: what it would have taken without drafts; 0 if nobody knows. Without `was_drafted` the target
        did not ask for drafts: the round tells of plain decoding.
        """
        arm = self.current if was_drafted else OFF_ARM
        use = self._own[arm].use
        self._rounds_since_change += 1
        self._num_tokens += tokens
        use.rounds += 1
        use.tokens += tokens
        use.seconds += seconds
        if seconds > 0 and plain_seconds > 0:
            is_opening = was_drafted and self._is_opening
            self._records.observe_seconds(arm, seconds / plain_seconds, is_opening=is_opening)
        if was_drafted:
            if not self._is_opening:
                self._learn(arm, tokens)
            self._is_opening = False
        for name, would_be in (shadows or {}).items():
            if name in self._own and name != arm:
                self._own[name].use.shadow_rounds += 1
                self._own[name].use.shadow_tokens += would_be
                self._learn(name, would_be)

    def saw(self, language: str) -> None:
        """The answer's last words are in this language. Its rounds may say otherwise, as those of a translation do."""
        if language in self._beliefs:
            self._beliefs[language] *= _SEEN
            self._normalise()

    def choose(self, remaining_tokens: int, available: Collection[str] | None = None) -> str:
        """The arm of the next round, with so many tokens to come at most; `available`: that can be taken; None: all."""
        arms = [arm for arm in self._own if available is None or arm == OFF_ARM or arm in available]
        if self.current in arms and self._rounds_since_change <= _DWELL:
            return self.current
        best = max(arms, key=self._hoped_rate)
        if self.current not in arms or self._is_worth_a_change(best, remaining_tokens):
            self.current = best
            self.num_changes += 1
            self._is_opening = True
            self._rounds_since_change = 0
        return self.current

    def _is_worth_a_change(self, arm: str, remaining_tokens: int) -> bool:
        now, then = self.expected_rate(self.current), self._hoped_rate(arm)
        horizon = min(remaining_tokens, _HORIZON, self._num_tokens)
        gain = horizon / now - horizon / then - self._records.opening(arm)
        return arm != self.current and then > _LEAST_GAIN * now and gain > 0

    def _hoped_rate(self, arm: str) -> float:
        """With some hope for arms that would be better in a language that the text may be in."""
        if arm == self.current:
            return self.expected_rate(arm)
        foretold = [(belief, self._records.tokens(tag, self._task, arm)) for tag, belief in self._beliefs.items()]
        mean = sum(belief * tokens for belief, tokens in foretold)
        spread = math.sqrt(sum(belief * (tokens - mean) ** 2 for belief, tokens in foretold))
        trust = self._records.arms[arm].trust
        untried = trust / (trust + 4 * self._own[arm].tokens.weight)
        return self._rate(arm, _HOPE_WITHIN * spread * untried)

    def _rate(self, arm: str, hope: float) -> float:
        return (self.expected_tokens(arm) + hope) / self._records.seconds(arm)

    def _learn(self, arm: str, tokens: int) -> None:
        if arm == OFF_ARM:
            return
        own = self._own[arm]
        own.foretold.observe(self._foretold(arm), _FORGET_OWN)
        own.tokens.observe(tokens, _FORGET_OWN)
        self._believe(arm, tokens)
        self._records.observe_tokens(self._language_of_text(), self._task, arm, tokens)

    def _believe(self, arm: str, tokens: int) -> None:
        """Languages in which so many tokens were to be expected of the arm become likelier."""
        for tag, belief in self._beliefs.items():
            # Each further token is accepted or not: a geometric law with that mean.
            goes_on = 1.0 - 1.0 / max(self._records.tokens(tag, self._task, arm), 1.01)
            self._beliefs[tag] = belief * (1.0 - goes_on) * goes_on ** (tokens - 1)
        self._normalise()

    def _normalise(self) -> None:
        total = sum(self._beliefs.values())
        for tag, belief in self._beliefs.items():
            self._beliefs[tag] = (1 - _FIXED_SHARE) * belief / total + _FIXED_SHARE * self._at_first[tag]

    def _language_of_text(self) -> str:
        """The request's, unless its rounds leave hardly a doubt that it is another."""
        tag = max(self._beliefs, key=lambda tag: self._beliefs[tag])
        return tag if self._beliefs[tag] > _HARDLY_A_DOUBT else self._language
