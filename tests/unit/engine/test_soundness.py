"""A model that gives no numbers for a sequence fails that one; neighbours, and who gets its pages, notice nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from engine.engine import Engine, EngineConfig
from engine.local import LocalAnswer, generate
from engine.model import TargetModel
from engine.sampling import SamplingParams
from engine.scheduler import SchedulerConfig
from engine.session import Finish, LocalDrafting, OpenRequest
from engine.soundness import row_peaks
from engine.step_graphs import StaticSteps
from engine.tree import TokenTree
from engine.verify.verifiers import VERIFIERS
from tests.tiny_targets import MAX_CONTEXT, VOCAB_SIZE, without_numbers
from tests.unit.engine.conftest import KnowingDrafter, make_requests

PLAIN = LocalDrafting()
LONG = 150
"""More than one tile of attention: what another sequence left must not reach a row through a merge either."""
Answers = dict[int, list[int]]
MakeEngine = Callable[..., Engine]


@pytest.fixture(params=["tiled", "listed", "static"])
def make_engine(request: pytest.FixtureRequest, target: TargetModel) -> MakeEngine:
    """Each form of attention; the last two are what runs on a CUDA device, with the kernels' reference."""

    def make(max_rows: int = 256, num_pages: int = 96) -> Engine:
        of_form = target if request.param == "tiled" else replace(target, lone_block=None)
        scheduler = SchedulerConfig(
            max_rows=max_rows, prefill_chunk=48, draft_deadline_s=0.0, max_context=MAX_CONTEXT, shared_prefixes=()
        )
        engine = Engine(of_form, VERIFIERS["coupled"], EngineConfig(num_pages=num_pages, scheduler=scheduler))
        if request.param == "static":
            engine.static_steps = StaticSteps(
                of_form, engine.executor.cache, engine.verifier, engine.executor.min_rows, capture=False
            )
        return engine

    return make


def _prompt(length: int, seed: int, without: int | None = None) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, VOCAB_SIZE, (length,), generator=generator).tolist()
    return tuple(token if token != without else 3 for token in tokens)


def _request(session_id: int, prompt: tuple[int, ...], *, waits: bool, temperature: float = 0.8) -> OpenRequest:
    sampling = SamplingParams(temperature, seed=session_id)
    return OpenRequest(session_id, prompt, len(prompt), sampling, 12, local=None if waits else PLAIN)


def _neighbours(*, waits: bool) -> list[OpenRequest]:
    return [_request(number, _prompt(length, number), waits=waits) for number, length in ((1, LONG), (2, 9), (3, 40))]


def _tokens(answers: dict[int, LocalAnswer]) -> Answers:
    return {session_id: answer.token_ids for session_id, answer in answers.items()}


def _unused(requests: Sequence[OpenRequest], answers: Answers) -> int:
    """A token that occurs in none of them."""
    used = {token for request in requests for token in request.token_ids}.union(*answers.values())
    return min(set(range(3, VOCAB_SIZE)) - used)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 70, LONG - 1])
@pytest.mark.parametrize("waits", [False, True])
def test_a_request_without_numbers_fails_alone(
    make_engine: MakeEngine, target: TargetModel, value: float, place: int, waits: bool
) -> None:
    requests = _neighbours(waits=waits)
    expected = _tokens(generate(make_engine(), _neighbours(waits=False)))
    unsound = _unused(requests, expected)
    prompt = list(_prompt(LONG, 4, without=unsound))
    prompt[place] = unsound
    engine = make_engine()
    drafter = KnowingDrafter(expected | {9: [], 10: []}, 0.7) if waits else None
    # One in front of the others and one behind, since what stands first is what padding might repeat.
    failing = [_request(number, tuple(prompt), waits=waits) for number in (9, 10)]

    with without_numbers(target.model, unsound, value):
        found = generate(engine, [failing[0], *requests, failing[1]], drafter)
        again = generate(engine, requests, drafter)

    for request in failing:
        assert (found[request.session_id].finish, found[request.session_id].token_ids) == (Finish.FAILED, [])
    assert {number: found[number].token_ids for number in expected} == expected
    assert _tokens(again) == expected
    assert engine.counters.failed == 2
    assert engine.num_free_pages == engine.scheduler.pool.num_usable


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_an_answer_that_reaches_such_a_token_ends_there_whatever_is_drafted(
    make_engine: MakeEngine, target: TargetModel, temperature: float
) -> None:
    (request,) = make_requests(1, temperature, max_tokens=20)
    whole = generate(make_engine(), [replace(request, local=PLAIN)])[1].token_ids
    place = max(i for i, token in enumerate(whole[:-1]) if token not in (*request.token_ids, *whole[:i]))
    one, other = make_engine(), make_engine()  # both are proved before the model is spoilt

    with without_numbers(target.model, whole[place], math.nan):
        plain = generate(one, [replace(request, local=PLAIN)])[1]
        drafted = generate(other, [request], KnowingDrafter({1: whole}, 1.0), max_draft=5)[1]

    assert (plain.finish, plain.token_ids) == (Finish.FAILED, whole[: place + 1])
    assert (drafted.finish, drafted.token_ids) == (Finish.FAILED, whole[: place + 1])


def test_a_draft_that_spoils_its_round_costs_the_draft_alone(make_engine: MakeEngine, target: TargetModel) -> None:
    """In a chain the later tokens lie in the tile that the earlier ones read; and who drafts may insist."""
    (request,) = make_requests(1, max_tokens=8)
    expected = generate(make_engine(), [replace(request, local=PLAIN)])[1].token_ids
    unsound = _unused([request], {1: expected})
    engine = make_engine()
    engine.open(request)
    found: list[int] = []

    with without_numbers(target.model, unsound, math.nan):
        for _ in range(3 * len(expected)):
            sequence = engine.scheduler.sequences.get(1)
            if sequence is None:
                break
            engine.draft(1, len(sequence.token_ids), sequence.hash, TokenTree.chain([expected[0], unsound, unsound]))
            found += [token for outcome in engine.step()[0] for token in outcome.token_ids]

    assert found == expected
    assert engine.counters.failed == 0


def test_padding_beside_such_a_token_spoils_no_later_step(make_engine: MakeEngine, target: TargetModel) -> None:
    requests = _neighbours(waits=False)
    expected = _tokens(generate(make_engine(), requests))
    unsound = _unused(requests, expected)
    engine = make_engine()

    with without_numbers(target.model, unsound, math.nan):
        failed = generate(engine, [_request(9, (unsound,), waits=False)])[9]
        found = generate(engine, requests)

    assert engine.executor.min_rows > 1, "a step of one row is to be padded"
    assert failed.finish is Finish.FAILED
    assert _tokens(found) == expected


def test_pages_that_were_filled_beside_such_a_token_are_found_by_nobody(
    make_engine: MakeEngine, target: TargetModel
) -> None:
    """Both share a beginning; one goes on with the token in a later chunk, where the page is one of both."""
    shared = _prompt(100, 5)
    engine = make_engine(max_rows=48)
    clean = _request(2, (*shared, *_prompt(30, 6)), waits=False)
    expected = generate(make_engine(), [clean])[2].token_ids
    unsound = _unused([clean], {2: expected})
    failing = _request(1, (*shared, *[unsound] * 3, *_prompt(100, 7, without=unsound)), waits=False)
    engine.open(failing)

    with without_numbers(target.model, unsound, math.nan):
        for _ in range(3):  # the third chunk ends behind the token
            outcomes, _ = engine.step()
        found = generate(engine, [clean])[2]

    assert [outcome.finish for outcome in outcomes] == [Finish.FAILED]
    assert found.token_ids == expected
    assert engine.counters.prefixes.hit_tokens == 96  # what the first two chunks filled is sound


def test_what_free_pages_hold_does_not_matter(make_engine: MakeEngine) -> None:
    requests = _neighbours(waits=True)
    expected = _tokens(generate(make_engine(), _neighbours(waits=False)))
    engine = make_engine()
    for slots_SE in engine.executor.cache.slots:
        slots_SE[1:] = math.nan

    found = generate(engine, requests, KnowingDrafter(expected, 0.7))

    assert _tokens(found) == expected


def test_a_model_that_gives_no_numbers_at_all_stops_no_engine(make_engine: MakeEngine, target: TargetModel) -> None:
    requests = _neighbours(waits=False)
    expected = _tokens(generate(make_engine(), requests))
    engine = make_engine()
    head = target.model.get_output_embeddings().weight.data
    before = head[5].clone()
    head[5] = math.nan
    try:
        failed = generate(engine, requests)
    finally:
        head[5] = before

    assert all((answer.finish, answer.token_ids) == (Finish.FAILED, []) for answer in failed.values())
    assert _tokens(generate(engine, requests)) == expected


def test_single_tokens_may_be_forbidden() -> None:
    inf = math.inf
    logits_RV = torch.tensor([[1.0, -inf, 2.0], [-inf] * 3, [1.0, math.nan, 2.0], [1.0, inf, 2.0], [1.0, -inf, -inf]])

    for dtype in (torch.float32, torch.bfloat16):
        assert row_peaks(logits_RV.to(dtype)).isfinite().tolist() == [True, False, False, False, True]
