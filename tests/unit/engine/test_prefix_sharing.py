"""A page that is found holds the bits that would have been computed; long prompts do not stall running sequences."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from engine.engine import Engine
from engine.local import generate
from engine.sampling import SamplingParams
from engine.scheduler import Plan, Scheduler
from engine.session import LocalDrafting, OpenRequest
from tests.tiny_targets import VOCAB_SIZE
from tests.unit.engine.conftest import KnowingDrafter, MakeEngine, committed_kv, last_logits

PLAIN = LocalDrafting()
BEGINNING = tuple(random.Random(11).randrange(3, VOCAB_SIZE) for _ in range(150))


def _request(session_id: int, prompt: tuple[int, ...] = BEGINNING, max_tokens: int = 40) -> OpenRequest:
    sampling = SamplingParams(temperature=0.8, seed=session_id)
    return OpenRequest(session_id, prompt, len(prompt), sampling, max_tokens, tenant="a", local=PLAIN)


def _prefill(engine: Engine, request: OpenRequest) -> int:
    """Open and read the whole prompt; the tokens that were found."""
    engine.open(request)
    while True:
        outcomes, _ = engine.step()
        engine.check_integrity()
        for outcome in outcomes:
            if outcome.session_id == request.session_id:
                return outcome.num_found


def _answered(engine: Engine, request: OpenRequest, drafter: KnowingDrafter | None = None) -> tuple[int, ...]:
    """Prompt and answer of a sequence that has come and gone."""
    answer = generate(engine, [request], drafter, max_draft=5)[request.session_id]
    return (*request.token_ids, *answer.token_ids)


def _answered_after_a_preemption(engine: Engine, request: OpenRequest) -> tuple[int, ...]:
    engine.open(request)
    sequence = engine.scheduler.sequences[request.session_id]
    while sequence.id in engine.scheduler.sequences:
        engine.step()
        if engine.scheduler.num_preemptions == 0 and sequence.num_answer_tokens == 3:
            engine.scheduler.preempt(sequence)
    return tuple(sequence.token_ids)


@pytest.mark.parametrize("writer", ["one chunk", "chunks of 7", "trees", "preempted"])
def test_kv_and_logits_after_a_hit_are_bitwise_those_of_a_prefill(make_engine: MakeEngine, writer: str) -> None:
    alone = make_engine(prefix_sharing=False)
    engine = make_engine(prefill_chunk=7, max_rows=7) if writer == "chunks of 7" else make_engine()
    if writer == "preempted":
        sequence = _answered_after_a_preemption(engine, _request(2))
        assert engine.scheduler.num_preemptions == 1
    elif writer == "trees":
        right = {2: generate(alone, [_request(2)])[2].token_ids}
        sequence = _answered(engine, replace(_request(2), local=None), KnowingDrafter(right, 0.8))
    else:
        sequence = _answered(engine, _request(2))
    again = _request(3, (*sequence, 5, 6, 7))

    num_found = _prefill(engine, again)
    assert _prefill(alone, again) == 0

    assert num_found == (len(sequence) - 1) // 16 * 16 > len(BEGINNING)
    assert engine.scheduler.sequences[3].token_ids == alone.scheduler.sequences[3].token_ids
    assert all(map(torch.equal, committed_kv(engine, 3), committed_kv(alone, 3)))
    assert torch.equal(last_logits(engine, 3), last_logits(alone, 3))


def test_sharing_changes_no_token_under_drafts_evictions_and_preemptions(make_engine: MakeEngine) -> None:
    rng = random.Random(5)
    requests = []
    for session_id in range(1, 17):
        end = tuple(rng.randrange(3, VOCAB_SIZE) for _ in range(rng.randrange(1, 30)))
        prompt = (*BEGINNING[: rng.choice((16, 40, 64, 90))], *end)
        requests.append(replace(_request(session_id, prompt, 30), tenant=rng.choice("ab"), local=None))
    plain = make_engine(prefix_sharing=False)
    expected = {r.session_id: generate(plain, [replace(r, local=PLAIN)])[r.session_id].token_ids for r in requests}
    engine = make_engine(num_pages=24)

    for _ in range(2):
        found = generate(engine, requests, KnowingDrafter(expected, 0.7), max_draft=5)
        assert {session_id: answer.token_ids for session_id, answer in found.items()} == expected

    counters = engine.counters.prefixes
    assert counters.hit_tokens > 0 and counters.evictions > 0 and counters.lookups >= 32
    assert engine.scheduler.num_preemptions > 0
    assert engine.num_free_pages == engine.scheduler.pool.num_usable


def test_no_kv_of_another_tenant_is_found(make_engine: MakeEngine) -> None:
    engine = make_engine()
    _answered(engine, _request(1))

    assert _prefill(engine, replace(_request(2), tenant="b")) == 0
    assert _prefill(engine, _request(3)) == len(BEGINNING) // 16 * 16


def test_the_second_of_two_that_arrive_together_takes_what_the_first_fills(make_engine: MakeEngine) -> None:
    engine = make_engine(prefill_chunk=32)
    engine.open(_request(1, (3, 4, 5)))
    engine.step()
    for session_id in (2, 3):
        engine.open(_request(session_id))

    found: dict[int, int] = {}
    while not found.keys() >= {2, 3}:
        for outcome in engine.step()[0]:
            found.setdefault(outcome.session_id, outcome.num_found)
        engine.check_integrity()

    assert found[2] == 0
    assert found[3] >= 128


def test_a_long_prompt_takes_one_chunk_of_each_step_of_a_running_sequence(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(prefill_chunk=16)
    engine.open(_request(1, (3, 4, 5), max_tokens=200))
    engine.step()
    plans: list[Plan] = []
    plan = engine.scheduler.plan

    def watched(_: Scheduler, now_s: float) -> Plan:
        plans.append(plan(now_s))
        return plans[-1]

    monkeypatch.setattr(Scheduler, "plan", watched)
    for session_id in (2, 3):
        engine.open(_request(session_id, (session_id, *BEGINNING, *BEGINNING[:100])))

    while not all(session.num_pending == 1 for session in engine.scheduler.sequences.values()):
        engine.step()

    rows = [{work.sequence.id: work.num_tokens for work in plan.work} for plan in plans]
    assert len(rows) == -(-2 * 251 // 16)
    assert all(step[1] == 1 for step in rows)
    assert all(sum(step.values()) - 1 <= 16 + 1 for step in rows)  # the first of the two may run already
    assert all(sum(step.values()) - 1 >= 16 for step in rows[:-1])
