"""Steps without some sublayers, against models in which these add nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPTNeoXConfig, OPTConfig, PreTrainedConfig

from engine.batch import WorkItem
from engine.kv_cache import KVCache
from engine.model import TargetModel, load_target, prepare_target
from engine.pages import PageId
from engine.skipping import NOTHING, SkipSet
from engine.tree import TokenTree
from tests.tiny_targets import FAMILIES, VOCAB_SIZE, write_tiny_target

CPU = torch.device("cpu")
IDS = [3 + (7 * position) % 90 for position in range(40)]
SETS = [SkipSet.of([1]), SkipSet.of([], [0]), SkipSet.of([0], [0, 1]), SkipSet.of([0, 1], [0, 1])]
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
LAST = {"attention": ("o_proj", "dense"), "mlp": ("down_proj", "dense_4h_to_h")}
"""The projections that end a sublayer."""


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_target(tmp_path_factory.mktemp("model"), request.param)


@pytest.fixture(scope="module")
def loaded(directory: Path) -> TargetModel:
    return load_target(directory, torch.float32, CPU)


@pytest.fixture(params=["lean", "modules"])
def target(request: pytest.FixtureRequest, loaded: TargetModel) -> TargetModel:
    """By its own step, if it has one, and by transformers' modules."""
    return loaded if request.param == "lean" else replace(loaded, lean=None)


def cache_of(target: TargetModel) -> KVCache:
    return KVCache(target.kv_layers, 8, 16, target.dtype, CPU)


def read(target: TargetModel, cache: KVCache, skip: SkipSet, num_cached: int = 0, ids: list[int] = IDS) -> Tensor:
    """Logits [V] after the last token."""
    pages = [PageId(page) for page in (5, 2, 7, 1)]
    item = WorkItem(ids[num_cached:], num_cached, pages, TokenTree(), wants_logits=True)
    return target.forward(target.pack([item], cache, 8), skip)[0]


def without_effect(directory: Path, skip: SkipSet) -> Tensor:
    """Logits [V] by transformers itself, of the model whose sublayers in the set end in zeros."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    for kind, layers in (("attention", skip.attention), ("mlp", skip.mlp)):
        for layer in layers:
            (last,) = (m for n, m in model.model.layers[layer].named_modules() if n.split(".")[-1] in LAST[kind])
            nn.init.zeros_(last.weight)
    with torch.inference_mode():
        logits_V: Tensor = model(input_ids=torch.tensor([IDS]), use_cache=False).logits[0, -1]
    return logits_V


@pytest.mark.parametrize("skip", SETS, ids=str)
def test_what_is_left_out_adds_nothing(directory: Path, target: TargetModel, skip: SkipSet) -> None:
    expected_V = without_effect(directory, skip)

    found_V = read(target, cache_of(target), skip)

    assert (found_V - expected_V).abs().max() <= 1e-4 * expected_V.abs().max()


def test_a_skipping_step_leaves_full_steps_as_they_were_and_other_layers_alone(target: TargetModel) -> None:
    fresh, used = cache_of(target), cache_of(target)
    expected_V = read(target, fresh, NOTHING)

    read(target, used, NOTHING, ids=IDS[:30])
    before = [slots.clone() for slots in used.slots]
    read(target, used, SkipSet.of([1], [0]), num_cached=30)
    assert not torch.equal(used.slots[0], before[0])
    assert torch.equal(used.slots[1], before[1]), "a skipped attention writes nothing"

    assert torch.equal(read(target, used, NOTHING, num_cached=30), expected_V)
    assert all(map(torch.equal, used.slots, fresh.slots))


def other_target(config: PreTrainedConfig) -> TargetModel:
    torch.manual_seed(0)
    return prepare_target(AutoModelForCausalLM.from_config(config, dtype=torch.float32), frozenset({1}))


def test_parallel_layers_can_be_left_out() -> None:
    config = GPTNeoXConfig(**SIZES, intermediate_size=64, use_parallel_residual=True)
    target = other_target(config)
    assert target.lean is None

    found_V = read(target, cache_of(target), SkipSet.of([0, 1], [0, 1]))

    model: Any = target.model
    with torch.inference_mode():
        expected_V = model.lm_head(model.gpt_neox.final_layer_norm(model.gpt_neox.embed_in(torch.tensor(IDS[-1]))))
    assert torch.allclose(found_V, expected_V, atol=1e-5)


def test_layers_without_an_mlp_module_say_so() -> None:
    config = OPTConfig(**SIZES, ffn_dim=64)
    target = other_target(config)

    assert target.sublayers.problem(SkipSet.of([0, 1])) is None
    assert "layer 1 has no MLP module of its own" in str(target.sublayers.problem(SkipSet.of([], [1])))
    assert "layer 2 is none of the model's 2" in str(target.sublayers.problem(SkipSet.of([2])))
