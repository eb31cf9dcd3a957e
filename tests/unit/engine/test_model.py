"""What is loaded, and what is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import DeepseekV3Config, LlavaConfig, MambaConfig, PreTrainedConfig, Qwen3NextConfig, T5Config

from engine.batch import WorkItem
from engine.checks import check_agreement
from engine.kv_cache import KVCache
from engine.lean_decoder import LeanDecoder
from engine.model import ModelRefused, TargetModel, load_target, refuse_config
from engine.pages import PageId
from engine.tree import TokenTree
from tests.tiny_targets import write_tiny_target

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (T5Config(), "t5: encoder-decoder"),
        (DeepseekV3Config(), "deepseek_v3: multi-head latent attention"),
        (Qwen3NextConfig(), "qwen3_next: layers of type linear_attention"),
        (MambaConfig(), "mamba: layers of type linear_attention"),
        (LlavaConfig(), "llava: models with an image or audio encoder"),
    ],
)
def test_other_architectures_are_refused_by_name(config: PreTrainedConfig, words: str) -> None:
    with pytest.raises(ModelRefused, match=words):
        refuse_config(config)


def test_a_directory_without_safetensors_is_refused(tmp_path: Path) -> None:
    write_tiny_target(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")

    with pytest.raises(ModelRefused, match=r"no \*\.safetensors"):
        load_target(tmp_path, None, CPU)


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"no config\.json"):
        load_target(tmp_path, None, CPU)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_whose_attention_the_engine_does_not_compute_is_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    target = load_target(write_tiny_target(tmp_path, "phi3"), dtype, CPU)
    target.model.model.layers[0].self_attn.register_forward_hook(
        lambda module, args, kwargs, output: (output[0] * 1.5, output[1]) if "step" in kwargs else output,
        with_kwargs=True,
    )

    with pytest.raises(ModelRefused, match="logits through the engine differ"):
        check_agreement(target, 8)


def has_lean_step(target: TargetModel) -> bool:
    return target.lean is not None


def test_a_lean_step_that_computes_something_else_is_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = load_target(write_tiny_target(tmp_path), torch.float32, CPU)
    wrong = replace(target.attention[0], scale=target.attention[0].scale * 1.5)
    target.lean = LeanDecoder(target.model, (wrong, *target.attention[1:]))

    assert check_agreement(target, 8) < 1e-4
    assert not has_lean_step(target)
    assert "the lean step differs" in caplog.text


@pytest.mark.parametrize(
    ("family", "is_lean"), [("llama", True), ("mistral", True), ("qwen3", True), ("gemma3", False), ("phi3", False)]
)
def test_which_families_have_a_lean_step(tmp_path: Path, family: str, is_lean: bool) -> None:
    target = load_target(write_tiny_target(tmp_path, family), torch.float32, CPU)

    assert has_lean_step(target) == is_lean
    assert check_agreement(target, 8) < 1e-4
    assert has_lean_step(target) == is_lean


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3"])
def test_a_lean_step_compiles_to_the_same_bits(
    tmp_path: Path, family: str, dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    target = load_target(write_tiny_target(tmp_path, family), dtype, CPU)
    assert target.lean is not None
    if target.lone_block is None:
        pytest.skip(f"on this processor the kernel's rows depend on each other in {dtype}")
    cache = KVCache(target.kv_layers, 32, 16, dtype, CPU)
    tree = TokenTree((5, 6, 7, 8), (-1, -1, 0, 1), (0, 1, 0, 0))
    pages = [PageId(page) for page in range(1, 14)]
    items = [WorkItem(list(range(60)) * 2, 10, pages[:11], tree, True), WorkItem([3, 4], 0, pages[11:], tree, True)]

    batch = target.pack(items, cache, 8)
    compiled_RV = target.forward(batch)
    target.lean.compiled = target.lean.step

    assert torch.equal(target.forward(batch), compiled_RV)
    assert "without TorchScript" not in caplog.text


def test_the_demo_target_is_served_in_bf16(request: pytest.FixtureRequest) -> None:
    target = load_target(request.config.rootpath / "models" / "target", torch.bfloat16, CPU)

    assert check_agreement(target, 8) <= 0.2


def test_eos_ids_come_from_the_generation_config(tmp_path: Path) -> None:
    write_tiny_target(tmp_path)
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [1, 4]}))

    assert load_target(tmp_path, None, CPU).eos_ids == {1, 4}
