"""Sizes against what transformers allocates; what is no dense decoder is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, MistralConfig, PreTrainedConfig

from training.planning.random_models import llama_config
from training.planning.shapes import DEPTHS, drafter_shape, drafter_shapes, read_shape

SIZES: dict[str, Any] = {
    "vocab_size": 200,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def allocated(config: PreTrainedConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in AutoModelForCausalLM.from_config(config).parameters())


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SIZES, tie_word_embeddings=False),
        LlamaConfig(**SIZES, head_dim=32, tie_word_embeddings=True),
        MistralConfig(**SIZES),
        GemmaConfig(**SIZES, head_dim=64),
    ],
    ids=["llama", "tied llama, wide heads", "mistral", "gemma, tied by default"],
)
def test_parameters_are_those_of_the_model(tmp_path: Path, config: PreTrainedConfig) -> None:
    config.save_pretrained(tmp_path)

    assert read_shape(tmp_path).num_parameters == allocated(config)
    assert read_shape(tmp_path / "config.json") == read_shape(tmp_path)


def test_parameters_of_a_drafter_are_those_of_the_model() -> None:
    shape = drafter_shape(2, 192, 3, 500)

    assert shape.num_parameters == allocated(llama_config(shape))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "llama", "num_hidden_layers": None}, "num_hidden_layers missing"),
        ({"model_type": "t5"}, "model_type is 't5'"),
        ({"model_type": "bert"}, "model_type is 'bert'"),
        ({}, "model_type is ''"),
        ({"model_type": "mixtral", "num_local_experts": 8}, r"has experts \(num_local_experts\)"),
    ],
)
def test_what_is_no_dense_decoder_is_refused(tmp_path: Path, fields: dict[str, object], message: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(SIZES | fields))

    with pytest.raises(ValueError, match=message):
        read_shape(file)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")

    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        read_shape(tmp_path)


def test_the_grid_holds_lawful_shapes(tmp_path: Path) -> None:
    LlamaConfig(**SIZES | {"hidden_size": 896, "num_attention_heads": 14, "num_key_value_heads": 2}).save_pretrained(
        tmp_path
    )

    shapes = list(drafter_shapes(read_shape(tmp_path), (100, 200)))

    assert len(shapes) == len(set(shapes))
    assert {shape.layers for shape in shapes} == set(DEPTHS)
    assert max(shape.hidden_size for shape in shapes) == 896
    for shape in shapes:
        assert shape.hidden_size % 64 == 0
        assert shape.heads * shape.head_dim == shape.hidden_size
        assert shape.heads % shape.kv_heads == 0
