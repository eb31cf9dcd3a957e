"""Sizes of decoders: a target's from its `config.json`, and the drafters that may be trained for it.

Weights are counted as the Llama family has them: grouped-query attention and a gated MLP of three matrices. Biases
and the norms inside attention, of some members, are left out: far below a thousandth.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from transformers import AutoConfig

from engine.model import refuse_config

FAMILIES = ("gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "olmo", "olmo2", "phi3", "qwen2", "qwen3")
"""Model types with that attention and that MLP in every layer."""
_NEEDED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")

DEPTHS = (1, 2, 3, 5)
WIDTHS = tuple(Fraction(eighths, 8) for eighths in (1, 2, 3, 4, 6, 8))
"""Of the target's."""
MLP_RATIOS = (2, 3, 4)
_WIDTH_STEP = _HEAD_DIM = 64
_LEAST_WIDTH = 128
_MOST_KV_HEADS = 8


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """The sizes of a decoder."""

    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    rows: int
    """Of the embedding and of the head: the vocabulary, or what a trimmed drafter keeps of it."""
    is_tied: bool = True
    """Whether head and embedding are one matrix."""

    @property
    def layer_weights(self) -> int:
        """Of the matrices of one layer."""
        attention = 2 * (self.heads + self.kv_heads) * self.head_dim
        return self.hidden_size * (attention + 3 * self.intermediate_size)

    @property
    def head_weights(self) -> int:
        return self.rows * self.hidden_size

    @property
    def pass_weights(self) -> int:
        """What a pass reads; of the embedding it reads single rows."""
        return self.layers * self.layer_weights + self.head_weights

    @property
    def num_parameters(self) -> int:
        norms = (2 * self.layers + 1) * self.hidden_size
        return self.pass_weights + norms + (0 if self.is_tied else self.head_weights)


def read_shape(path: Path) -> DecoderShape:
    """The sizes in a model directory's `config.json`, or in that file itself.

    Raises FileNotFoundError, or ValueError for what is no decoder of the Llama family, naming the cause.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON ({error}); give the config.json of a transformers model") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{file} is not a JSON object; give the config.json of a transformers model")
    family = str(fields.pop("model_type", ""))
    experts = [name for name in fields if "experts" in name and fields[name]]
    if experts:
        raise ValueError(
            f"{file}: {family} has experts ({experts[0]}); plan knows dense models only, whose steps read all weights"
        )
    if family not in FAMILIES:
        raise ValueError(f"{file}: model_type is {family!r}; plan knows {', '.join(FAMILIES)}")
    missing = [name for name in _NEEDED if not isinstance(fields.get(name), int) or fields[name] < 1]
    if missing:
        raise ValueError(f"{file}: {', '.join(missing)} missing or not a positive integer; is the file whole?")
    config = AutoConfig.for_model(family, **fields)
    refuse_config(config)
    return DecoderShape(
        layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        heads=config.num_attention_heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        rows=config.vocab_size,
        is_tied=bool(config.tie_word_embeddings),
    )


def drafter_shape(layers: int, width: int, mlp_ratio: int, rows: int) -> DecoderShape:
    """A drafter with heads of 64, as many key-value heads as divide half of them or less."""
    heads = width // _HEAD_DIM
    kv_heads = max(n for n in range(1, min(heads // 2, _MOST_KV_HEADS) + 1) if heads % n == 0)
    return DecoderShape(layers, width, mlp_ratio * width, heads, kv_heads, _HEAD_DIM, rows)


def drafter_shapes(target: DecoderShape, row_counts: tuple[int, ...]) -> Iterator[DecoderShape]:
    """The grid: depths, widths in parts of the target's, MLPs of two to four times that, sizes of the vocabulary."""
    steps = {round(part * target.hidden_size / _WIDTH_STEP) for part in WIDTHS}
    for layers in DEPTHS:
        for width in sorted({max(step * _WIDTH_STEP, _LEAST_WIDTH) for step in steps}):
            for mlp_ratio in MLP_RATIOS:
                for rows in row_counts:
                    yield drafter_shape(layers, width, mlp_ratio, rows)
