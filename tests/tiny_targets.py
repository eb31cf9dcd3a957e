"""Tiny random targets of several families, saved as the engine loads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

VOCAB_SIZE = 97
MAX_CONTEXT = 320
# Widths are multiples of 32: AVX-512's elementwise kernels treat the end of an odd tensor unlike its middle, and the
# engine refuses to promise invariance then.
_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": MAX_CONTEXT,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
FAMILIES: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**_SIZES),
    "qwen3": lambda: Qwen3Config(**_SIZES, head_dim=8),
    "gemma3": lambda: Gemma3TextConfig(
        **_SIZES,
        head_dim=8,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
        query_pre_attn_scalar=8,
    ),
    "mistral": lambda: MistralConfig(**_SIZES, sliding_window=8),
    "phi3": lambda: Phi3Config(**_SIZES),
    "uneven": lambda: LlamaConfig(
        **_SIZES | {"hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 3, "tie_word_embeddings": True}
    ),
}


def write_tiny_target(directory: Path, family: str = "llama", sharpness: float = 4.0) -> Path:
    """Save a random model; `sharpness` scales its weights so that its choices are neither flat nor certain."""
    torch.manual_seed(len(family))
    model = AutoModelForCausalLM.from_config(FAMILIES[family]())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(sharpness)
    model.save_pretrained(directory)
    return directory


@contextmanager
def without_numbers(model: PreTrainedModel, token: int, value: float) -> Iterator[None]:
    """Reading this token gives no numbers: an element of its embedding is `value`."""
    embedding = model.get_input_embeddings().weight
    assert isinstance(embedding, torch.Tensor)
    row = embedding.data[token]
    before = row.clone()
    row[3] = value
    try:
        yield
    finally:
        row.copy_(before)
