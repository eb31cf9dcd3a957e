"""Generate in this process: engine and drafter in lockstep, without servers. For tests, evaluation and tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.corrections import Correction
from engine.drafters.base import Drafter, DraftSession, DraftVerdict, DraftWork
from engine.engine import Engine, StepOutcome
from engine.session import Finish, OpenRequest


@dataclass(frozen=True, slots=True)
class Round:
    """What one pass of the target after prefill brought; the fields are those of `StepOutcome`."""

    num_tokens: int
    num_drafted: int
    num_accepted: int
    num_compared: int


@dataclass(slots=True)
class LocalAnswer:
    """An answer and what it took."""

    token_ids: list[int] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    """After prefill's own token."""
    corrections: list[Correction] = field(default_factory=list)
    """Of requests that ask for them."""
    finish: Finish | None = None

    @property
    def num_drafted(self) -> int:
        return sum(one.num_drafted for one in self.rounds)

    @property
    def num_accepted(self) -> int:
        return sum(one.num_accepted for one in self.rounds)


def generate(
    engine: Engine,
    requests: Sequence[OpenRequest],
    drafter: Drafter | None = None,
    max_draft: int = 4,
    *,
    is_checked: bool = True,
) -> dict[int, LocalAnswer]:
    """Decode all requests together, each round with a block of `drafter`; requests without `local` need one.

    `is_checked` checks the engine's pages and counters after each step, which takes time: not for what is timed.
    """
    answers = {request.session_id: LocalAnswer() for request in requests}
    drafted = [request for request in requests if request.local is None]
    assert drafter is not None or not drafted, "requests that wait for blocks need a drafter"
    for request in requests:
        engine.open(request)
    if drafter is not None:
        drafter.open([DraftSession(r.session_id, r.token_ids, r.sampling, language=r.language) for r in drafted])
    while any(answer.finish is None for answer in answers.values()):
        outcomes, _ = engine.step()
        if is_checked:
            engine.check_integrity()
        _record(answers, outcomes)
        if drafter is not None:
            _draft(engine, drafter, [o for o in outcomes if o.session_id in {r.session_id for r in drafted}], max_draft)
    if drafter is not None:
        drafter.close([request.session_id for request in drafted])
    return answers


def _record(answers: dict[int, LocalAnswer], outcomes: Sequence[StepOutcome]) -> None:
    for outcome in outcomes:
        answer = answers[outcome.session_id]
        if answer.token_ids:
            answer.rounds.append(
                Round(len(outcome.token_ids), outcome.num_drafted, outcome.num_accepted, outcome.num_compared)
            )
        answer.token_ids += outcome.token_ids
        answer.corrections += [outcome.correction] if outcome.correction is not None else []
        answer.finish = outcome.finish


def _draft(engine: Engine, drafter: Drafter, outcomes: Sequence[StepOutcome], max_draft: int) -> None:
    """Tell the drafter what was committed and offer its next blocks."""
    drafter.observe([DraftVerdict(o.session_id, o.token_ids, o.num_accepted) for o in outcomes])
    going_on = [outcome for outcome in outcomes if outcome.finish is None]
    trees = drafter.propose([DraftWork(o.session_id, max_draft) for o in going_on])
    for outcome, tree in zip(going_on, trees, strict=True):
        engine.draft(outcome.session_id, outcome.length, outcome.hash, tree)
