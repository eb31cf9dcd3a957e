"""A target that drafts for itself: the same text, the same KV, and no page more than before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.drafters.allocation import Allocation
from engine.drafters.cascade import CascadeDrafter
from engine.drafters.early_exit import AdaptiveExit
from engine.drafters.layer_skip import LayerSkipDrafter
from engine.drafters.ngram import NGramDrafter
from engine.drafters.skip_file import ChosenSet, SkipFile
from engine.engine import Engine, EngineConfig
from engine.linears import can_pack
from engine.local import LocalAnswer, generate
from engine.model import TargetModel, load_target
from engine.pages import PageId
from engine.scheduler import SchedulerConfig
from engine.session import LocalDrafting, OpenRequest
from engine.skipping import NOTHING, SkipSet
from engine.target_view import EngineView
from engine.verify.verifiers import VERIFIERS
from tests.tiny_targets import MAX_CONTEXT, VOCAB_SIZE, write_tiny_target
from tests.unit.engine.conftest import committed_kv, make_requests

CPU = torch.device("cpu")
SKIPPING, PLAIN = LocalDrafting("layer_skip", 6), LocalDrafting()
SETS = SkipFile("tiny", 2, ChosenSet(SkipSet.of([1])), {"de": ChosenSet(SkipSet.of([], [1])), "fr": ChosenSet(NOTHING)})


def engine_with(target: TargetModel, sets: SkipFile = SETS, num_pages: int = 64, threshold: float = 0.3) -> Engine:
    scheduler = SchedulerConfig(draft_deadline_s=0.0, max_context=MAX_CONTEXT, prefill_chunk=16)
    config = EngineConfig(num_pages=num_pages, scheduler=scheduler, measures_drafts=False)
    drafter = LayerSkipDrafter(sets, VOCAB_SIZE, eos_token_ids=(1,), exit_rule=AdaptiveExit(threshold))
    return Engine(target, VERIFIERS["coupled"], config, {"layer_skip": drafter})


def texts(answers: dict[int, LocalAnswer]) -> dict[int, list[int]]:
    return {session_id: answer.token_ids for session_id, answer in answers.items()}


def in_languages(requests: list[OpenRequest]) -> list[OpenRequest]:
    """Of several sets side by side."""
    return [replace(request, language=("de", "fr", "ru")[i % 3]) for i, request in enumerate(requests)]


@pytest.fixture(scope="module", params=["llama", "gemma3", "bf16"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TargetModel:
    """By the lean step, by transformers' modules, and in another dtype where the CPU has it."""
    if request.param == "bf16" and not can_pack(torch.bfloat16, CPU):
        pytest.skip("this CPU has no bf16 kernels")
    directory: Path = tmp_path_factory.mktemp("target")
    if request.param == "bf16":
        return load_target(write_tiny_target(directory), torch.bfloat16, CPU)
    return load_target(write_tiny_target(directory, request.param), torch.float32, CPU)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("num_pages", [64, 12])
def test_the_text_is_that_of_plain_decoding(family: TargetModel, temperature: float, num_pages: int) -> None:
    engine = engine_with(family, num_pages=num_pages)
    expected = generate(engine, make_requests(6, temperature, local=PLAIN))

    found = generate(engine, in_languages(make_requests(6, temperature, local=SKIPPING)))

    assert texts(found) == texts(expected)
    assert 0 < sum(a.num_accepted for a in found.values()) < sum(a.num_drafted for a in found.values())
    assert engine.num_free_pages == num_pages - 1
    if num_pages == 12:
        assert engine.scheduler.num_preemptions > 0


@pytest.mark.parametrize("threshold", [0.0, 0.9, 1.0])
def test_where_drafts_end_does_not_touch_what_is_sampled(target: TargetModel, threshold: float) -> None:
    """Stopping looks at the very noise that verification uses, which is lawful only because the target's choice is the
    same whatever is drafted."""
    expected = generate(engine_with(target), make_requests(12, 1.0, local=PLAIN))

    assert texts(generate(engine_with(target, threshold=threshold), make_requests(12, 1.0, local=SKIPPING))) == texts(
        expected
    )


def test_with_nothing_left_out_every_draft_is_right(target: TargetModel) -> None:
    """Also by its last bit: drafts are steps of the same numerics, and what they read is the committed KV."""
    whole = SkipFile("tiny", 2, ChosenSet(NOTHING))

    found = generate(engine_with(target, whole, threshold=0.0), make_requests(6, 0.0, local=SKIPPING))

    rounds = [one for answer in found.values() for one in answer.rounds]
    assert sum(one.num_accepted for one in rounds) > 0
    assert all(one.num_accepted == one.num_compared for one in rounds)


def test_after_drafts_and_verification_the_kv_is_that_of_a_prefill(target: TargetModel) -> None:
    request = in_languages(make_requests(1, 0.0, max_tokens=60, local=SKIPPING))[0]
    drafted, fresh = engine_with(target, threshold=0.0), engine_with(target)
    drafted.open(request)
    num_drafted = num_accepted = 0
    for _ in range(12):
        (outcome,), _ = drafted.step()
        num_drafted += outcome.num_drafted
        num_accepted += outcome.num_accepted
    sequence = drafted.scheduler.sequences[request.session_id]
    assert 0 < num_accepted < num_drafted, "some drafts were right, some wrong"

    fresh.open(replace(request, token_ids=tuple(sequence.token_ids), local=PLAIN))
    while fresh.scheduler.sequences[request.session_id].num_cached < sequence.num_cached:
        fresh.step()

    again = fresh.scheduler.sequences[request.session_id]
    for found, expected in zip(
        committed_kv(drafted, request.session_id), committed_kv(fresh, request.session_id), strict=True
    ):
        assert torch.equal(found, expected[:, : found.shape[1]])
    assert again.token_ids[: len(sequence.token_ids)] == sequence.token_ids


def test_pages_for_drafts_are_lent_and_a_full_pool_shortens_them(target: TargetModel) -> None:
    engine = engine_with(target, num_pages=5)
    (request,) = make_requests(1, max_tokens=40, local=PLAIN)
    engine.open(request)
    while engine.scheduler.sequences[request.session_id].num_pending > 1:
        engine.step()
    engine.step()
    sequence = engine.scheduler.sequences[request.session_id]
    view = EngineView(engine.executor, engine.scheduler)
    before, free = list(sequence.pages), engine.num_free_pages

    with view.scratch({request.session_id: 30}) as scratch:
        assert scratch.room(request.session_id) == 30
        assert engine.num_free_pages < free
    assert (sequence.pages, engine.num_free_pages) == (before, free)

    taken: list[PageId] = []
    assert engine.scheduler.pool.grow(taken, free * engine.config.page_size)
    with view.scratch({request.session_id: 30}) as scratch:
        assert scratch.room(request.session_id) == len(before) * engine.config.page_size - sequence.num_cached
    engine.scheduler.pool.shrink(taken, 0)
    with pytest.raises(RuntimeError, match="a drafter broke"), view.scratch({request.session_id: 30}):
        raise RuntimeError("a drafter broke")
    assert (sequence.pages, engine.num_free_pages) == (before, free)
    engine.check_integrity()


def test_drafts_are_no_longer_than_what_can_be_committed(target: TargetModel) -> None:
    (request,) = make_requests(1, 0.0, max_tokens=3, local=SKIPPING)
    whole = SkipFile("tiny", 2, ChosenSet(NOTHING))

    (answer,) = generate(engine_with(target, whole, threshold=0.0), [request]).values()

    assert [one.num_drafted for one in answer.rounds] == [1]


def test_lookup_may_go_on_where_its_drafts_end(target: TargetModel) -> None:
    own = LayerSkipDrafter(SETS, VOCAB_SIZE, max_nodes=3, eos_token_ids=(1,))
    cascade = CascadeDrafter(own, NGramDrafter([1, 2], 8), 6, eos_token_ids=(1,), allocation=Allocation(3))
    scheduler = SchedulerConfig(draft_deadline_s=0.0, max_context=MAX_CONTEXT)
    config = EngineConfig(num_pages=64, measures_drafts=False, scheduler=scheduler)
    engine = Engine(target, VERIFIERS["coupled"], config, {"both": cascade})
    expected = generate(engine, make_requests(4, 0.8, local=PLAIN))

    found = generate(engine, make_requests(4, 0.8, local=LocalDrafting("both", 6)))

    assert texts(found) == texts(expected)
    assert max(one.num_drafted for answer in found.values() for one in answer.rounds) > 3


def test_verifiers_that_weigh_by_the_drafts_law_refuse_it(target: TargetModel) -> None:
    """Its tokens are chosen, not drawn: judged by its own softmax the text would follow another law."""
    drafter = LayerSkipDrafter(SETS, VOCAB_SIZE)

    for verifier in ("chain_rejection", "block", "multi_round"):
        with pytest.raises(ValueError, match="layer_skip"):
            Engine(target, VERIFIERS[verifier], EngineConfig(num_pages=64), {"layer_skip": drafter})
