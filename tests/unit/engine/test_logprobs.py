"""Log-probabilities are the target's own, and the same bits however their tokens were committed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from engine.drafters.base import DraftSession, DraftVerdict, DraftWork
from engine.engine import Engine, EngineConfig, StepOutcome
from engine.local import generate
from engine.logprobs import TokenLogprobs, token_logprobs
from engine.model import TargetModel
from engine.scheduler import SchedulerConfig
from engine.session import LocalDrafting, OpenRequest
from engine.step_graphs import StaticSteps
from engine.verify.verifiers import VERIFIERS
from tests.tiny_targets import MAX_CONTEXT
from tests.unit.engine.conftest import KnowingDrafter, make_requests

TOP = 5


def new_engine(target: TargetModel, prefill_chunk: int = 64) -> Engine:
    scheduler = SchedulerConfig(draft_deadline_s=0.0, max_context=MAX_CONTEXT, prefill_chunk=prefill_chunk)
    return Engine(target, VERIFIERS["coupled"], EngineConfig(num_pages=64, measures_drafts=False, scheduler=scheduler))


def logprobs_of(
    engine: Engine, requests: Sequence[OpenRequest], answers: dict[int, list[int]] | None = None
) -> dict[int, list[TokenLogprobs]]:
    """Of each session's tokens; with `answers` drafted, seven of ten tokens right."""
    told: dict[int, list[TokenLogprobs]] = {request.session_id: [] for request in requests}
    drafter = KnowingDrafter(answers or {}, 0.7 if answers else 0.0)
    for request in requests:
        engine.open(request)
    drafter.open([DraftSession(r.session_id, r.token_ids, r.sampling) for r in requests])
    num_drafted = 0
    while engine.num_sessions:
        for outcome in engine.step()[0]:
            assert len(outcome.logprobs) == len(outcome.token_ids)
            told[outcome.session_id] += outcome.logprobs
            num_drafted += outcome.num_accepted
            drafter.observe([DraftVerdict(outcome.session_id, outcome.token_ids, outcome.num_accepted)])
            if answers and outcome.finish is None:
                (tree,) = drafter.propose([DraftWork(outcome.session_id, 5)])
                engine.draft(outcome.session_id, outcome.length, outcome.hash, tree)
    assert bool(answers) == (num_drafted > 0)
    return told


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_logprobs_have_the_same_bits_however_tokens_were_committed(target: TargetModel, temperature: float) -> None:
    requests = [replace(r, top_logprobs=TOP) for r in make_requests(5, temperature)]
    plain = [replace(request, local=LocalDrafting()) for request in requests]
    answers = {n: list(answer.token_ids) for n, answer in generate(new_engine(target), plain).items()}
    alone = {n: told for request in plain for n, told in logprobs_of(new_engine(target), [request]).items()}

    assert all(len(alone[number]) == len(token_ids) for number, token_ids in answers.items())
    assert logprobs_of(new_engine(target), plain) == alone
    assert logprobs_of(new_engine(target, prefill_chunk=7), requests, answers) == alone
    # As after a loss: prompt and half of the answer are read at once.
    halves = [
        replace(r, token_ids=(*r.token_ids, *answers[r.session_id][: len(answers[r.session_id]) // 2])) for r in plain
    ]
    rest = logprobs_of(new_engine(target), halves)
    assert rest == {n: told[len(answers[n]) // 2 :] for n, told in alone.items()}


def test_logprobs_are_the_log_softmax_of_the_models_logits(target: TargetModel) -> None:
    (request,) = make_requests(1, temperature=0.7)
    request = replace(request, top_logprobs=TOP, local=LocalDrafting())
    outcomes: list[StepOutcome] = []
    engine = new_engine(target)
    engine.open(request)
    while engine.num_sessions:
        outcomes += engine.step()[0]
    token_ids = [token for outcome in outcomes for token in outcome.token_ids]
    told = [one for outcome in outcomes for one in outcome.logprobs]

    expected_TV = target.plain_logits([*request.token_ids, *token_ids]).log_softmax(1)[len(request.token_ids) - 1 : -1]

    torch.testing.assert_close(
        torch.tensor([one.logprob for one in told]), expected_TV.gather(1, torch.tensor(token_ids)[:, None])[:, 0]
    )
    best_TK, ids_TK = expected_TV.topk(TOP)
    assert [one.top_ids for one in told] == [tuple(ids) for ids in ids_TK.tolist()]
    torch.testing.assert_close(torch.tensor([one.top_logprobs for one in told]), best_TK)


def test_captured_steps_leave_logprobs_to_eager_ones(target: TargetModel) -> None:
    requests = [replace(r, top_logprobs=0, local=LocalDrafting()) for r in make_requests(2)]
    engine = new_engine(target)
    listed = replace(target, lone_block=None)
    engine.static_steps = StaticSteps(
        listed, engine.executor.cache, engine.verifier, engine.executor.min_rows, capture=False
    )

    assert logprobs_of(engine, requests) == logprobs_of(new_engine(target), requests)


def test_only_sessions_that_ask_are_told(target: TargetModel) -> None:
    asks, asks_not = (replace(r, local=LocalDrafting()) for r in make_requests(2))
    engine = new_engine(target)
    engine.open(replace(asks, top_logprobs=0))
    engine.open(asks_not)
    told: dict[int, int] = {1: 0, 2: 0}
    while engine.num_sessions:
        for outcome in engine.step()[0]:
            told[outcome.session_id] += len(outcome.logprobs)
    assert told[1] > 0 and told[2] == 0


def test_of_equal_logits_the_lower_id_comes_first() -> None:
    logits = torch.zeros(3, 50)
    logits[:, 40] = 2.0
    logits[1, 7] = -torch.inf

    (told,) = token_logprobs(logits, [1], [40], 4)
    assert told.top_ids == (40, 0, 1, 2)
    (told,) = token_logprobs(logits, [0], [9], 0)
    assert (told.top_ids, told.top_logprobs) == ((), ())
    assert told.logprob == logits[0].log_softmax(0)[9].item()
