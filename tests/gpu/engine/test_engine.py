"""The engine on a CUDA device: its text depends on neither drafts nor graphs, and its steps are captured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.engine import Engine, EngineConfig
from engine.local import generate
from engine.model import TargetModel, load_target
from engine.numerics import Numerics
from engine.scheduler import SchedulerConfig
from engine.session import LocalDrafting
from engine.verify.verifiers import VERIFIERS
from tests.tiny_targets import MAX_CONTEXT, write_tiny_target
from tests.unit.engine.conftest import KnowingDrafter, make_requests

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda")
Answers = dict[int, list[int]]


@pytest.fixture(
    scope="module",
    params=[("llama", torch.float32), ("llama", torch.bfloat16), ("gemma3", torch.float32), ("qwen3", torch.bfloat16)],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TargetModel:
    family, dtype = request.param
    directory: Path = write_tiny_target(tmp_path_factory.mktemp("model"), family)
    return load_target(directory, dtype, CUDA)


def make_engine(target: TargetModel, *, cuda_graphs: bool, prefill_chunk: int = 64) -> Engine:
    scheduler = SchedulerConfig(prefill_chunk=prefill_chunk, draft_deadline_s=0.0, max_context=MAX_CONTEXT)
    config = EngineConfig(64, 16, Numerics.INVARIANT, cuda_graphs, scheduler=scheduler)
    return Engine(target, VERIFIERS["coupled"], config)


def answers_of(engine: Engine, temperature: float, known: Answers | None = None) -> Answers:
    local = LocalDrafting() if known is None else None
    requests = make_requests(7, temperature, local=local)
    drafter = None if known is None else KnowingDrafter(known, 0.7)
    return {number: answer.token_ids for number, answer in generate(engine, requests, drafter, max_draft=5).items()}


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_tokens_depend_on_neither_drafts_nor_graphs(target: TargetModel, temperature: float) -> None:
    eager, captured = make_engine(target, cuda_graphs=False), make_engine(target, cuda_graphs=True)
    expected = answers_of(eager, temperature)

    assert answers_of(captured, temperature) == expected
    assert answers_of(eager, temperature, expected) == expected
    assert answers_of(captured, temperature, expected) == expected
    assert answers_of(make_engine(target, cuda_graphs=True, prefill_chunk=7), temperature) == expected

    assert eager.static_steps is None
    assert captured.static_steps is not None
    assert captured.static_steps.num_graphs > 0


def test_a_graph_is_used_again(target: TargetModel) -> None:
    engine = make_engine(target, cuda_graphs=True)
    assert engine.static_steps is not None
    expected = answers_of(engine, 0.0)
    num_graphs = engine.static_steps.num_graphs

    assert answers_of(engine, 0.0) == expected
    assert engine.static_steps.num_graphs == num_graphs


def test_a_pool_too_small_for_all_changes_no_token(target: TargetModel) -> None:
    expected = answers_of(make_engine(target, cuda_graphs=True), 0.9)
    scheduler = SchedulerConfig(draft_deadline_s=0.0, max_context=MAX_CONTEXT)
    small = Engine(target, VERIFIERS["coupled"], EngineConfig(8, 16, scheduler=scheduler))

    assert answers_of(small, 0.9) == expected
    assert small.scheduler.num_preemptions > 0
