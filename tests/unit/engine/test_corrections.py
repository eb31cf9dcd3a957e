"""Corrections are the target's own law at the place where it overruled a draft, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine.drafters.base import DraftSession, DraftVerdict, DraftWork
from engine.engine import Engine, EngineConfig, StepOutcome
from engine.local import generate
from engine.model import TargetModel
from engine.scheduler import SchedulerConfig
from engine.session import Finish, LocalDrafting, OpenRequest
from engine.step_graphs import StaticSteps
from engine.tree import TokenTree
from engine.verify.verifiers import VERIFIERS
from tests.tiny_targets import MAX_CONTEXT
from tests.unit.engine.conftest import KnowingDrafter, make_requests

TOP_K = 7
Round = tuple[TokenTree, StepOutcome]


@pytest.fixture(params=["eager", "static"])
def engine(request: pytest.FixtureRequest, target: TargetModel) -> Engine:
    scheduler = SchedulerConfig(draft_deadline_s=0.0, max_context=MAX_CONTEXT)
    config = EngineConfig(num_pages=64, measures_drafts=False, scheduler=scheduler)
    engine = Engine(target, VERIFIERS["coupled"], config)
    if request.param == "static":
        # Attention by index lists, as on a CUDA device.
        listed = replace(target, lone_block=None)
        engine.static_steps = StaticSteps(
            listed, engine.executor.cache, engine.verifier, engine.executor.min_rows, capture=False
        )
    return engine


def rounds_of(engine: Engine, requests: list[OpenRequest], share_right: float = 0.7) -> list[Round]:
    """Every round's tree and what came of it; drafts are right in `share_right` of their tokens."""
    plain = [replace(request, local=LocalDrafting(), correction_top_k=0) for request in requests]
    answers = {number: answer.token_ids for number, answer in generate(engine, plain).items()}
    drafter = KnowingDrafter(answers, share_right)
    trees: dict[int, TokenTree] = {}
    rounds: list[Round] = []
    for request in requests:
        engine.open(request)
    drafter.open([DraftSession(r.session_id, r.token_ids, r.sampling) for r in requests])
    while engine.num_sessions:
        for outcome in engine.step()[0]:
            rounds.append((trees.pop(outcome.session_id, TokenTree()), outcome))
            drafter.observe([DraftVerdict(outcome.session_id, outcome.token_ids, outcome.num_accepted)])
            if outcome.finish is None:
                (tree,) = drafter.propose([DraftWork(outcome.session_id, 5)])
                trees[outcome.session_id] = tree
                engine.draft(outcome.session_id, outcome.length, outcome.hash, tree)
    return rounds


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_corrections_are_the_targets_likeliest_tokens_where_it_overruled(
    engine: Engine, target: TargetModel, temperature: float
) -> None:
    requests = [replace(r, correction_top_k=TOP_K) for r in make_requests(5, temperature)]
    sequences = {request.session_id: list(request.token_ids) for request in requests}

    rounds = rounds_of(engine, requests)

    num_overruled = 0
    for tree, outcome in rounds:
        sequence = sequences[outcome.session_id]
        sequence += outcome.token_ids
        if outcome.num_drafted != len(tree):
            continue  # the scheduler cut the tree: there was not so much room
        reached_the_bottom = outcome.num_accepted == max(tree.depths(), default=0)
        cut = outcome.finish is not None and len(outcome.token_ids) <= outcome.num_accepted
        if reached_the_bottom:
            assert outcome.correction is None
        elif outcome.correction is not None or not cut:
            assert outcome.correction is not None
            place = outcome.base_length + outcome.num_accepted
            probs_K, ids_K = target.plain_logits(sequence[:place])[-1].softmax(0).topk(TOP_K)
            assert outcome.correction.position == place
            assert outcome.correction.likely.token_ids == tuple(ids_K.tolist())
            torch.testing.assert_close(torch.tensor(outcome.correction.likely.probs), probs_K)
            num_overruled += 1
    assert num_overruled > 10


def test_the_place_of_the_end_of_sequence_is_corrected_too(engine: Engine, target: TargetModel) -> None:
    requests = [replace(r, correction_top_k=TOP_K) for r in make_requests(12, temperature=1.2, max_tokens=100)]

    rounds = rounds_of(engine, requests, share_right=0.3)

    ends = [o for _, o in rounds if o.finish is Finish.EOS and o.correction is not None]
    assert ends
    assert all(outcome.correction.position == outcome.length for outcome in ends if outcome.correction)


def test_sessions_get_what_they_ask_for(engine: Engine) -> None:
    wanted = {1: 0, 2: 3, 3: 7}
    requests = [replace(r, correction_top_k=wanted[r.session_id]) for r in make_requests(3)]

    rounds = rounds_of(engine, requests)

    told = {
        number: {len(o.correction.likely.probs) for _, o in rounds if o.session_id == number and o.correction}
        for number in wanted
    }
    assert told == {1: set(), 2: {3}, 3: {7}}
