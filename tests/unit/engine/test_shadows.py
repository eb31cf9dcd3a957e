"""Drafters that are only scored: what they are told to have brought is what they would have brought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from engine.drafters.base import DraftSession, DraftVerdict, DraftWork
from engine.drafters.ngram import NGramDrafter
from engine.engine import CannotServe, Engine, StepOutcome
from engine.model import TargetModel
from engine.session import LocalDrafting, OpenRequest
from engine.shadows import SHADOW_EVERY, SHADOW_FROM, SHADOW_NODES, SHADOW_SELDOM, ShadowScore
from engine.tree import TokenTree
from tests.unit.engine.conftest import make_requests
from tests.unit.engine.test_local_drafting import LM, NGRAM, PLAIN, CountingDrafter, engine_with


def written(engine: Engine, request: OpenRequest) -> tuple[list[int], ShadowScore, list[StepOutcome]]:
    """The answer, what "ngram" scored on it, and the rounds."""
    engine.open(request)
    tokens: list[int] = []
    rounds: list[StepOutcome] = []
    while engine.num_sessions:
        outcomes, _ = engine.step()
        rounds += outcomes
        tokens += [token for outcome in outcomes for token in outcome.token_ids]
    scores = [outcome.shadows["ngram"] for outcome in rounds if "ngram" in outcome.shadows]
    return tokens, ShadowScore(sum(s.num_rounds for s in scores), sum(s.num_tokens for s in scores)), rounds


def expected(request: OpenRequest, rounds: Sequence[StepOutcome]) -> ShadowScore:
    """By hand: a proposal now and then, held against the text until that has left it; told a round later."""
    drafter = NGramDrafter([1, 2], max_nodes=8)
    drafter.open([DraftSession(1, (*request.token_ids, *rounds[0].token_ids), request.sampling)])
    num_rounds = num_tokens = counted_rounds = counted_tokens = 0
    tree: TokenTree | None = None
    behind: list[int] = []
    proposed_at, every, first = SHADOW_FROM - SHADOW_EVERY, SHADOW_EVERY, 0
    for outcome in rounds[1:]:
        counted_rounds, counted_tokens = num_rounds, num_tokens
        before = outcome.round - 1
        if tree is None and before % SHADOW_EVERY == 0 and before >= proposed_at + every:
            (tree,), behind = drafter.propose([DraftWork(1, SHADOW_NODES)]), []
            proposed_at, first = before, len(outcome.token_ids)
        drafter.observe([DraftVerdict(1, outcome.token_ids, 0)])
        if tree is None:
            continue
        behind += outcome.token_ids
        path = tree.follow(behind)
        if len(path) < len(behind) or len(path) == len(tree):
            num_rounds, num_tokens, tree = num_rounds + 1, num_tokens + len(path) + 1, None
            every = SHADOW_EVERY if len(path) + 1 > first else min(2 * every, SHADOW_SELDOM)
    return ShadowScore(counted_rounds, counted_tokens)


@pytest.mark.parametrize("local", [PLAIN, LM])
def test_scores_are_what_verification_would_have_given(
    target: TargetModel, tmp_path: Path, local: LocalDrafting
) -> None:
    (request,) = make_requests(1, 0.8, max_tokens=60, local=PLAIN)
    engine, counting = engine_with(target, tmp_path)
    plain, nothing, _ = written(engine, request)

    tokens, score, rounds = written(engine, replace(request, local=local, shadows=("ngram",)))

    assert nothing == ShadowScore() and tokens == plain
    assert score == expected(request, rounds)
    assert score.num_rounds > 2
    assert not counting.known


def test_who_drafts_is_not_scored_as_well(target: TargetModel, tmp_path: Path) -> None:
    engine, _ = engine_with(target, tmp_path)
    (request,) = make_requests(1, max_tokens=40, local=NGRAM)

    _, score, _ = written(engine, replace(request, shadows=("ngram",)))

    assert score == ShadowScore()


def test_a_round_tells_who_drafted_it_and_how_long_it_took(target: TargetModel, tmp_path: Path) -> None:
    engine, _ = engine_with(target, tmp_path)
    (request,) = make_requests(1, max_tokens=30, local=LM)

    _, _, rounds = written(engine, request)
    assert [outcome.drafter for outcome in rounds] == ["", *["lm"] * (len(rounds) - 1)]
    assert all(outcome.seconds > 0 for outcome in rounds)
    _, _, rounds = written(engine, replace(request, local=PLAIN))
    assert {outcome.drafter for outcome in rounds} == {""}


def test_who_cannot_be_scored_is_refused(target: TargetModel, tmp_path: Path) -> None:
    engine, _ = engine_with(target, tmp_path)
    (request,) = make_requests(1, local=PLAIN)

    with pytest.raises(CannotServe, match="no drafting method 'eagle'; it has: lm, ngram"):
        engine.open(replace(request, shadows=("ngram", "eagle")))


def test_a_sequence_that_is_closed_early_leaves_nothing_behind(target: TargetModel, tmp_path: Path) -> None:
    engine, counting = engine_with(target, tmp_path)
    assert isinstance(counting, CountingDrafter)
    (request,) = make_requests(1, max_tokens=60, local=PLAIN)
    engine.open(replace(request, shadows=("ngram",)))
    for _ in range(SHADOW_FROM + 3):
        engine.step()
    assert counting.known == {-request.session_id}

    engine.close(request.session_id)

    assert not counting.known and not engine.shadows._known
