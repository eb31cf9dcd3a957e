"""The text is the target's own whatever is drafted, whatever else runs, however often it is computed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from engine.engine import CannotServe, Engine
from engine.local import generate
from engine.model import TargetModel
from engine.sampling import SamplingParams
from engine.session import Finish, LocalDrafting, OpenRequest
from engine.tree import TokenTree
from tests.tiny_targets import MAX_CONTEXT, VOCAB_SIZE
from tests.unit.engine.conftest import KnowingDrafter, MakeEngine, committed_kv, last_logits, make_requests

PLAIN = LocalDrafting()


def _plain_answers(engine: Engine, requests: list[OpenRequest]) -> dict[int, list[int]]:
    """Each request alone, without drafts."""
    answers = {}
    for request in requests:
        alone = OpenRequest(
            request.session_id,
            request.token_ids,
            request.prompt_length,
            request.sampling,
            request.max_tokens,
            local=PLAIN,
        )
        answers[request.session_id] = generate(engine, [alone])[request.session_id].token_ids
    return answers


def test_greedy_text_equals_transformers_generate(make_engine: MakeEngine, target: TargetModel) -> None:
    requests = make_requests(6, local=PLAIN)

    answers = generate(make_engine(), requests)

    for request in requests:
        plain = list(request.token_ids)
        while len(plain) < len(request.token_ids) + request.max_tokens and plain[-1] != 1:
            plain.append(int(target.plain_logits(plain)[-1].argmax()))
        expected = [token for token in plain[len(request.token_ids) :] if token != 1]
        assert answers[request.session_id].token_ids == expected


@pytest.mark.parametrize("temperature", [0.0, 0.8, 1.3])
@pytest.mark.parametrize("share_right", [0.0, 0.7, 1.0])
def test_drafts_change_no_token(make_engine: MakeEngine, temperature: float, share_right: float) -> None:
    requests = make_requests(8, temperature)
    expected = _plain_answers(make_engine(), requests)

    found = generate(make_engine(), requests, KnowingDrafter(expected, share_right), max_draft=5)

    assert {session_id: answer.token_ids for session_id, answer in found.items()} == expected
    if share_right == 1.0:
        assert sum(answer.num_accepted for answer in found.values()) > 0


def test_a_quarter_of_the_pages_changes_no_token_and_ends(make_engine: MakeEngine) -> None:
    requests = make_requests(16, temperature=0.8, max_tokens=30)
    expected = _plain_answers(make_engine(), requests)
    needed = sum(-(-(len(request.token_ids) + 30) // 16) for request in requests)
    engine = make_engine(num_pages=needed // 4 + 1)

    found = generate(engine, requests, KnowingDrafter(expected, 0.7))

    assert {session_id: answer.token_ids for session_id, answer in found.items()} == expected
    assert engine.scheduler.num_preemptions > 0
    assert engine.num_free_pages == engine.scheduler.pool.num_usable


def test_kv_and_logits_after_a_preemption_are_bitwise_those_of_an_undisturbed_run(make_engine: MakeEngine) -> None:
    requests = make_requests(3, temperature=0.8, max_tokens=150, local=PLAIN)
    undisturbed, disturbed = make_engine(), make_engine(prefill_chunk=7)
    for engine in (undisturbed, disturbed):
        for request in requests:
            engine.open(request)

    while len(undisturbed.scheduler.sequences[2].token_ids) < len(requests[1].token_ids) + 12:
        undisturbed.step()
    wanted = undisturbed.scheduler.sequences[2]
    while len(disturbed.scheduler.sequences[2].token_ids) < len(requests[1].token_ids) + 6:
        disturbed.step()
    disturbed.scheduler.preempt(disturbed.scheduler.sequences[2])
    while disturbed.scheduler.sequences[2].num_cached < wanted.num_cached:
        disturbed.step()

    assert disturbed.scheduler.num_preemptions == 1
    assert disturbed.scheduler.sequences[2].token_ids == wanted.token_ids
    assert all(map(torch.equal, committed_kv(disturbed, 2), committed_kv(undisturbed, 2)))
    assert torch.equal(last_logits(disturbed, 2), last_logits(undisturbed, 2))


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_prefill_chunks_change_no_token(make_engine: MakeEngine, chunk: int) -> None:
    requests = make_requests(5, temperature=0.8, local=PLAIN)

    expected = _plain_answers(make_engine(), requests)
    found = generate(make_engine(prefill_chunk=chunk, max_rows=max(chunk, 9)), requests)

    assert {session_id: answer.token_ids for session_id, answer in found.items()} == expected


def test_answer_ends_at_max_tokens_inside_an_accepted_draft(make_engine: MakeEngine) -> None:
    (request,) = make_requests(1, max_tokens=7)
    expected = _plain_answers(make_engine(), [request])
    long_answer = _plain_answers(make_engine(), make_requests(1, max_tokens=24))

    found = generate(make_engine(), [request], KnowingDrafter(long_answer, 1.0), max_draft=5)[1]

    assert found.token_ids == expected[1] == long_answer[1][:7]
    assert found.finish is Finish.LENGTH


def test_answer_ends_when_the_context_is_full(make_engine: MakeEngine) -> None:
    prompt = tuple(range(3, 60)) * 3
    request = OpenRequest(1, prompt, len(prompt), SamplingParams(temperature=1.0, seed=5), 500, local=PLAIN)

    found = generate(make_engine(), [request])[1]

    assert len(prompt) + len(found.token_ids) <= MAX_CONTEXT
    assert found.finish is Finish.EOS or len(prompt) + len(found.token_ids) == MAX_CONTEXT


def test_a_continued_sequence_goes_on_with_the_same_tokens(make_engine: MakeEngine) -> None:
    (request,) = make_requests(1, temperature=0.9, local=PLAIN)
    whole = generate(make_engine(), [request])[1].token_ids
    prompt = request.token_ids

    for cut in (1, len(whole) // 2, len(whole) - 1):
        again = OpenRequest(1, (*prompt, *whole[:cut]), len(prompt), request.sampling, request.max_tokens, local=PLAIN)
        assert whole[:cut] + generate(make_engine(), [again])[1].token_ids == whole


def test_a_block_for_another_sequence_is_dropped_and_counted(make_engine: MakeEngine) -> None:
    engine = make_engine()
    (request,) = make_requests(1)
    engine.open(request)
    (outcome,), _ = engine.step()

    assert not engine.draft(1, outcome.length, outcome.hash ^ 1, TokenTree.chain([5]))
    assert not engine.draft(1, outcome.length - 1, outcome.hash, TokenTree.chain([5]))
    assert not engine.draft(1, outcome.length, outcome.hash, TokenTree.chain([VOCAB_SIZE]))
    assert not engine.draft(1, outcome.length, outcome.hash, TokenTree((5, 6), (1, -1), (0, 0)))
    assert not engine.draft(2, outcome.length, outcome.hash, TokenTree.chain([5]))
    assert engine.counters.stale_drafts == 5
    assert engine.draft(1, outcome.length, outcome.hash, TokenTree.chain([5]))


def test_a_sequence_pauses_without_credit(make_engine: MakeEngine) -> None:
    engine = make_engine()
    (request,) = make_requests(1, max_tokens=20)
    limited = OpenRequest(
        1, request.token_ids, len(request.token_ids), request.sampling, 20, local=PLAIN, credit_tokens=3
    )
    engine.open(limited)

    committed = 0
    while outcomes := engine.step()[0]:
        committed += sum(len(outcome.token_ids) for outcome in outcomes)
    assert committed == 3
    engine.add_credit(1, 2)
    while outcomes := engine.step()[0]:
        committed += sum(len(outcome.token_ids) for outcome in outcomes)
    assert committed == 5


def test_close_frees_the_pages_of_a_running_sequence(make_engine: MakeEngine) -> None:
    engine = make_engine()
    for request in make_requests(3, local=PLAIN):
        engine.open(request)
    engine.step()

    for session_id in (1, 2, 3, 4):
        engine.close(session_id)

    engine.check_integrity()
    assert engine.num_free_pages == engine.scheduler.pool.num_usable
    assert engine.step() == ([], None)


@pytest.mark.parametrize(
    ("token_ids", "max_tokens", "words"),
    [
        ((), 5, "0 tokens do not fit"),
        (tuple([5] * MAX_CONTEXT), 5, f"{MAX_CONTEXT} tokens do not fit"),
        ((5, VOCAB_SIZE), 5, "outside the vocabulary"),
        ((5, 6), 0, "already has all of its 0 tokens"),
    ],
)
def test_what_can_never_be_decoded_is_refused(
    make_engine: MakeEngine, token_ids: tuple[int, ...], max_tokens: int, words: str
) -> None:
    with pytest.raises(CannotServe, match=words):
        make_engine().open(OpenRequest(1, token_ids, len(token_ids), SamplingParams(), max_tokens))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt_length": 3}, "a prompt of 3 tokens is longer than the 2"),
        ({"round": 2**63}, "round 9223372036854775808 is none"),
        ({"sampling": SamplingParams(temperature=math.nan)}, "temperature nan"),
        ({"sampling": SamplingParams(temperature=-1.0)}, "temperature -1.0"),
        ({"sampling": SamplingParams(temperature=1.0, top_p=math.inf)}, "top-p inf"),
    ],
)
def test_what_no_router_sends_is_refused(make_engine: MakeEngine, changes: dict[str, Any], words: str) -> None:
    request = replace(OpenRequest(1, (5, 6), 2, SamplingParams(), 4, local=PLAIN), **changes)

    with pytest.raises(CannotServe, match=words):
        make_engine().open(request)


def test_a_pool_too_small_for_one_answer_is_refused(make_engine: MakeEngine) -> None:
    with pytest.raises(CannotServe, match="do not fit the KV pool of 2 pages"):
        make_engine(num_pages=3).open(OpenRequest(1, (5, 6), 2, SamplingParams(), 40))


def test_unknown_local_method_is_refused_by_name(make_engine: MakeEngine) -> None:
    with pytest.raises(CannotServe, match="no drafting method 'layer_skip'"):
        make_engine().open(OpenRequest(1, (5, 6), 2, SamplingParams(), 4, local=LocalDrafting("layer_skip", 4)))


def test_equal_logits_take_the_lowest_id(make_engine: MakeEngine, target: TargetModel) -> None:
    head = target.model.get_output_embeddings().weight
    (request,) = make_requests(1, max_tokens=1, local=PLAIN)
    before = head.detach().clone()
    try:
        with torch.no_grad():
            head.copy_(head[:1].expand_as(head))
        engine = make_engine()
        engine.open(request)
        (outcome,), _ = engine.step()
    finally:
        with torch.no_grad():
            head.copy_(before)

    assert outcome.token_ids == (0,)
