"""A request's drafters, where several serve its language, and which of them drafts now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from cluster.arms import OFF_ARM, Arm, ArmChooser, ArmRecords
from cluster.config import Config
from cluster.drafter_config import DrafterConfig, Placement
from cluster.events import DrafterUse
from cluster.messages import Verdict
from cluster.request import DrafterChoice
from cluster.routing import OFF

_NONE = DrafterChoice()
_WORDS = 60
"""Characters whose language is looked at."""
_LOOK_EVERY = 6
"""Rounds; a look takes a few tenths of a millisecond."""
_REPEATING = 0.25
"""From this share of token triples that came before on, a prompt repeats itself: a task of its own."""
_LOOK_FROM = 12
"""Rounds: in a short answer nothing is to be gained by it."""


def records_of(config: Config) -> ArmRecords:
    """Nothing is known yet of the configured drafters."""
    arms = [_arm(name, drafter) for name, drafter in config.drafters.items()]
    return ArmRecords([Arm(OFF_ARM), *arms], config.known_languages)


def _arm(name: str, drafter: DrafterConfig) -> Arm:
    """What is assumed of a drafter before it is measured."""
    languages = frozenset(drafter.languages)
    if drafter.costs_nothing:
        return Arm(name, languages, opening=0.1, trust=10.0)
    if drafter.placement is Placement.TARGET:
        return Arm(name, languages, seconds=1.2, opening=1.0)
    return Arm(name, languages, seconds=1.1, opening=2.0)


def task_of(tenant: str, prompt_ids: Sequence[int]) -> str:
    """What is asked for is not known; who asks is, and whether the prompt repeats itself, as drafts from text do."""
    triples = [*zip(prompt_ids, prompt_ids[1:], prompt_ids[2:], strict=False)]
    repeats = len(triples) - len({*triples}) >= _REPEATING * max(len(triples), 1)
    return f"{tenant}, repeating" if repeats else tenant


class DrafterChooser:
    """Chooses for one request among at least two drafters. Counts what each of them did."""

    def __init__(
        self,
        choices: Sequence[DrafterChoice],
        records: ArmRecords,
        language: str,
        task: str,
        detect: Callable[[str], str | None],
    ) -> None:
        """`detect`: the language of a few words, or None."""
        self._detect = detect
        self._words = ""
        """The last ones of the answer."""
        self._rounds_to_look = _LOOK_FROM
        self._choices = {choice.name: choice for choice in choices if choice.name is not None}
        self._chooser = ArmChooser(records, [*self._choices], language, task)

    @property
    def choices(self) -> Sequence[DrafterChoice]:
        return [*self._choices.values()]

    @property
    def favourite(self) -> DrafterChoice:
        """Whom the request would begin with if all were there."""
        return self._choices.get(self._chooser.favourite, _NONE)

    def begin(self, available: Collection[str]) -> DrafterChoice:
        """Whom it begins with."""
        return self._choices.get(self._chooser.begin(available), _NONE)

    def observe(self, verdict: Verdict) -> None:
        """A round after the prefill has ended. One that a drafter before the present one drafted for tells of none."""
        is_of_present = verdict.drafter in (OFF_ARM, self._chooser.current)
        if is_of_present and verdict.token_ids:
            shadows = {s.drafter: s.num_tokens // s.num_rounds for s in verdict.shadows if s.num_rounds}
            was_drafted = verdict.drafter != OFF_ARM
            self._chooser.observe(
                len(verdict.token_ids), verdict.seconds, verdict.plain_seconds, shadows, was_drafted=was_drafted
            )

    def wrote(self, text: str) -> None:
        """The answer goes on with this; now and then its last words are looked at."""
        self._words = (self._words + text)[-_WORDS:]
        self._rounds_to_look -= 1
        if self._rounds_to_look <= 0 and len(self._words) == _WORDS:
            self._rounds_to_look = _LOOK_EVERY
            language = self._detect(self._words)
            if language is not None:
                self._chooser.saw(language)

    def choose(self, remaining_tokens: int, available: Collection[str]) -> DrafterChoice:
        """Who drafts from here on."""
        return self._choices.get(self._chooser.choose(remaining_tokens, available), _NONE)

    def uses(self) -> tuple[DrafterUse, ...]:
        """What was expected of each drafter, and what came of it; "off" is decoding without drafts."""
        return tuple(
            DrafterUse(
                drafter=arm or OFF,
                rounds=use.rounds,
                tokens=use.tokens,
                seconds=use.seconds,
                scored_rounds=use.shadow_rounds,
                scored_tokens=use.shadow_tokens,
                expected_rate_at_first=self._chooser.expected_at_first[arm],
                expected_rate=self._chooser.expected_rate(arm),
                expected_tokens=self._chooser.expected_tokens(arm),
            )
            for arm, use in self._chooser.uses.items()
        )

    @property
    def num_changes(self) -> int:
        return self._chooser.num_changes
