"""Steps through static buffers, uncaptured, give what eager steps give: padding changes no token and no bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from polydraft_kernels.packing import PackedTrees, SamplingRows, Walk

from engine.attention import IndexLists, attend, attend_by_kernel
from engine.batch import WorkItem
from engine.engine import Engine, EngineConfig
from engine.kv_cache import KVCache
from engine.local import generate
from engine.model import TargetModel, load_target
from engine.pages import PageId
from engine.sampling import SamplingParams
from engine.scheduler import SchedulerConfig
from engine.session import LocalDrafting, OpenRequest
from engine.static_step import MIN_DEPTH, MIN_WIDTH, StepInputs, StepShape
from engine.step_graphs import StaticSteps, StepGraphs
from engine.tree import TokenTree
from engine.verify.verifiers import VERIFIERS, Verifier, VerifyWork
from tests.tiny_targets import MAX_CONTEXT, write_tiny_target
from tests.unit.engine.conftest import KnowingDrafter, make_requests

CPU = torch.device("cpu")
TREE = TokenTree((11, 12, 13), (-1, -1, 1), (0, 1, 0))


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def listed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TargetModel:
    """A target whose attention reads index lists, as on a CUDA device."""
    directory: Path = write_tiny_target(tmp_path_factory.mktemp("model"), request.param)
    target = load_target(directory, torch.float32, CPU)
    target.lone_block = None
    return target


MakeEngine = Callable[..., Engine]


@pytest.fixture
def make_engine(listed: TargetModel) -> MakeEngine:
    def make(*, static: bool, verifier: str = "coupled", prefill_chunk: int = 64) -> Engine:
        scheduler = SchedulerConfig(prefill_chunk=prefill_chunk, draft_deadline_s=0.0, max_context=MAX_CONTEXT)
        engine = Engine(listed, VERIFIERS[verifier], EngineConfig(num_pages=64, scheduler=scheduler))
        if static:
            steps = StaticSteps(listed, engine.executor.cache, engine.verifier, engine.executor.min_rows, capture=False)
            engine.static_steps = steps
        return engine

    return make


def mixed_requests(local: LocalDrafting | None = None) -> list[OpenRequest]:
    """Greedy, sampled and truncated ones together."""
    rules = [(0.0, 0, 1.0), (0.9, 0, 1.0), (0.9, 5, 1.0), (0.9, 0, 0.7)]
    return [
        replace(request, sampling=SamplingParams(*rules[number % 4], request.sampling.seed))
        for number, request in enumerate(make_requests(7, local=local))
    ]


def answers_of(engine: Engine, requests: list[OpenRequest], known: dict[int, list[int]] | None) -> dict[int, list[int]]:
    drafter = None if known is None else KnowingDrafter(known, 0.7)
    return {number: answer.token_ids for number, answer in generate(engine, requests, drafter, max_draft=5).items()}


def test_tokens_are_those_of_eager_steps(make_engine: MakeEngine) -> None:
    expected = answers_of(make_engine(static=False), mixed_requests(LocalDrafting()), None)
    static = make_engine(static=True)

    assert answers_of(static, mixed_requests(LocalDrafting()), None) == expected
    assert answers_of(make_engine(static=True, prefill_chunk=7), mixed_requests(), expected) == expected
    assert answers_of(make_engine(static=False), mixed_requests(), expected) == expected


def test_greedy_verification_in_static_steps(make_engine: MakeEngine) -> None:
    requests = make_requests(5)
    expected = answers_of(make_engine(static=False), make_requests(5, local=LocalDrafting()), None)

    assert answers_of(make_engine(static=True, verifier="greedy"), requests, expected) == expected


def watched(logits: list[torch.Tensor]) -> Verifier:
    """The coupled verifier, which notes what it is given."""

    def verify(work: VerifyWork) -> Walk:
        logits.append(work.logits_TV)
        return VERIFIERS["coupled"].verify(work)

    return replace(VERIFIERS["coupled"], verify=verify)


def test_logits_and_kv_are_bitwise_those_of_an_eager_step(listed: TargetModel, make_engine: MakeEngine) -> None:
    logits: dict[bool, list[torch.Tensor]] = {False: [], True: []}
    engines = {static: make_engine(static=False) for static in logits}
    for static, engine in engines.items():
        engine.verifier = watched(logits[static])
        if static:
            engine.static_steps = StaticSteps(
                listed, engine.executor.cache, engine.verifier, engine.executor.min_rows, capture=False
            )
        for request in make_requests(3, temperature=0.8):
            engine.open(request)
        outcomes, _ = engine.step()
        for outcome, tree in zip(outcomes, (TREE, TokenTree(), TokenTree.chain([5, 6])), strict=True):
            assert engine.draft(outcome.session_id, outcome.length, outcome.hash, tree)
        engine.step()

    assert logits[True][-1].shape[0] > 8
    assert torch.equal(logits[True][-1][:8], logits[False][-1][:8])
    for layer in range(len(listed.kv_layers)):
        assert torch.equal(
            engines[True].executor.cache.slots[layer][16:], engines[False].executor.cache.slots[layer][16:]
        )


def shape_for(num_nodes: list[int], longest: int = 40, min_rows: int = 1) -> StepShape:
    trees = PackedTrees.pack(
        [0] * len(num_nodes), [[3] * n for n in num_nodes], [list(range(-1, n - 1)) for n in num_nodes]
    )
    count = trees.num_rows
    rows = SamplingRows.build([0.0] * count, [0] * count, [1.0] * count, [0] * count, [0] * count)
    return StepShape.holding(trees, rows, longest, min_rows)


@pytest.mark.parametrize(
    ("num_nodes", "num_sequences", "num_rows"),
    [
        ([0], 1, 1),
        ([0, 0, 0], 4, 4),
        ([3, 0, 0], 4, 8),  # six rows and a padding sequence's root
        ([4] * 4, 4, 24),
        ([4] * 5, 8, 32),
        ([3] * 64, 64, 256),
        ([4] * 64, 64, 384),
    ],
)
def test_shapes_are_rounded_up(num_nodes: list[int], num_sequences: int, num_rows: int) -> None:
    shape = shape_for(num_nodes)

    assert (shape.num_sequences, shape.num_rows) == (num_sequences, num_rows)
    assert (shape.width, shape.depth) == (MIN_WIDTH, MIN_DEPTH)
    assert not shape.may_sample
    assert not shape.may_truncate


def test_long_sequences_and_few_rows_are_rounded_up() -> None:
    shape = shape_for([9], longest=1030, min_rows=16)

    assert (shape.num_rows, shape.width, shape.depth) == (16, 2048, 16)
    assert shape.is_small
    assert not shape_for([0] * 513).is_small
    assert not shape_for([0] * 256, longest=8193).is_small


def test_padding_sees_and_writes_the_trash_page_alone() -> None:
    shape = shape_for([3, 0, 0])
    told = StepInputs.allocate(shape, CPU)
    told.memory.fill_(77)  # what an earlier step left
    told.slots_TL.fill_(5)
    items = [
        WorkItem([9], 20, [PageId(3), PageId(4)], TREE, wants_logits=True),
        WorkItem([8], 2, [PageId(5)], TokenTree(), wants_logits=True),
        WorkItem([7], 0, [PageId(6)], TokenTree(), wants_logits=True),
    ]
    trees = PackedTrees.pack([9, 8, 7], [TREE.token_ids, (), ()], [TREE.parents, (), ()])
    rules = SamplingRows.build([0.5] * 6, [3] * 6, [0.9] * 6, [2**64 - 1] * 6, [0] * 6)

    told.fill(items, 16, trees, rules)

    assert told.ids_T.tolist() == [9, 11, 12, 13, 8, 7, 0, 0]
    assert told.positions_T.tolist() == [20, 21, 21, 22, 2, 0, 0, 0]
    assert told.write_slots_T.tolist() == [68, 69, 70, 71, 82, 96, 15, 15]
    assert told.parents_T.tolist() == [-1, 0, 0, 2, -1, -1, -1, -1]
    assert told.row_offsets_B1.tolist() == [0, 4, 5, 6, 7]
    assert told.temperatures_T.tolist() == [0.5] * 6 + [0.0] * 2
    assert told.top_ps_T.tolist() == [0.9] * 6 + [1.0] * 2
    assert told.keys_T.tolist() == [-1] * 6 + [0] * 2
    assert told.slots_TL[3, 19:23].tolist() == [67, 68, 70, 71]
    assert told.slots_TL[6:, 0].tolist() == [0, 0]


def test_prefill_and_pending_tokens_are_left_to_eager_steps(listed: TargetModel) -> None:
    cache = KVCache(listed.kv_layers, 8, 16, listed.dtype, CPU)
    steps = StaticSteps(listed, cache, VERIFIERS["coupled"], 1, capture=False)

    for token_ids, wants_logits in (([5, 6], True), ([5], False)):
        item = WorkItem(token_ids, 0, [PageId(1)], TokenTree(), wants_logits=wants_logits)
        assert steps.try_choose([item], []) is None


def test_a_step_that_cannot_be_captured_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Step:
        runs = 0

        def compute(self) -> None:
            self.runs += 1

    def refuse(self: StepGraphs, step: object) -> object:
        raise RuntimeError("operation not permitted when stream is capturing")

    for name in ("Stream", "current_stream", "set_stream", "graph_pool_handle"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(StepGraphs, "_capture", refuse)
    graphs, step = StepGraphs(), Step()

    for _ in range(3):
        graphs.run(shape_for([0]), step)  # type: ignore[arg-type]  # all that is asked of a step

    assert step.runs == 3
    assert len(graphs) == 0
    assert caplog.text.count("without a CUDA graph") == 1


@torch.inference_mode()
def test_attention_by_the_kernel_is_the_specification(listed: TargetModel) -> None:
    """What runs on a CUDA device, with the reference of the kernel in its place."""
    cache = KVCache(listed.kv_layers, 8, 16, torch.float32, CPU)
    generator = torch.Generator().manual_seed(0)
    for slots_SE in cache.slots:
        slots_SE.copy_(torch.randn(slots_SE.shape, generator=generator))
    slots_TL = torch.randint(16, 128, (3, 128), generator=generator)
    reads = IndexLists(slots_TL, torch.tensor([1, 60, 128]))

    class Step:
        def __init__(self) -> None:
            self.cache, self.reads = cache, reads

    for layer, attention in enumerate(listed.attention):
        width = attention.shape.num_heads * attention.group * attention.shape.key_size
        query_TE = torch.randn(3, width + 8, generator=generator)[:, :width]
        expected_TE = attend(query_TE, Step(), layer, attention)  # type: ignore[arg-type]  # all that is asked of it
        torch.testing.assert_close(attend_by_kernel(query_TE, cache, reads, layer, attention), expected_TE)
