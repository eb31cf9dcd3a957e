"""The directory of a trained drafter: `config.json`, `drafter.json`, `model.safetensors`.

The embedding is trimmed to a language: its first rows are the tokens that the drafter may propose, the next ones are
only read, and the last row stands for every other token. `vocabulary.token_ids` names the target's id of each row but
the last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

TOKEN_IDS = "vocabulary.token_ids"
EMBEDDING = "model.embed_tokens.weight"


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """The sizes of a Llama."""

    width: int
    mlp_width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    context_length: int
    rope_theta: float
    norm_eps: float

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> LlamaShape:
        """From the fields of a transformers `LlamaConfig`; refuses what the lean forward does not compute."""
        # transformers 5 keeps the rotary settings in one field, earlier ones had `rope_theta` at the top.
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if not isinstance(rope, Mapping):
            raise ValueError("config.json: rope_parameters is not a table; save the drafter again")
        unsupported = {
            "rope_type": rope.get("rope_type", "default") != "default",
            "attention_bias": bool(config.get("attention_bias", False)),
            "mlp_bias": bool(config.get("mlp_bias", False)),
            "hidden_act": config.get("hidden_act", "silu") != "silu",
            "tie_word_embeddings": not config.get("tie_word_embeddings", False),
        }
        if any(unsupported.values()):
            fields = ", ".join(name for name, is_bad in unsupported.items() if is_bad)
            raise ValueError(
                f"config.json: unsupported {fields}; a drafter is a Llama with plain rotary positions, "
                "no biases, SiLU and a tied head"
            )
        width, num_heads = _integer(config, "hidden_size"), _integer(config, "num_attention_heads")
        theta = rope.get("rope_theta", config.get("rope_theta", 10_000.0))
        return cls(
            width=width,
            mlp_width=_integer(config, "intermediate_size"),
            num_layers=_integer(config, "num_hidden_layers"),
            num_heads=num_heads,
            num_kv_heads=_integer(config, "num_key_value_heads"),
            head_size=_integer(config, "head_dim") if config.get("head_dim") else width // num_heads,
            context_length=_integer(config, "max_position_embeddings"),
            rope_theta=float(str(theta)),
            norm_eps=float(str(config.get("rms_norm_eps", 1e-6))),
        )


@dataclass(frozen=True, slots=True)
class DrafterManifest:
    """For whom a drafter was trained."""

    language: str
    target_id: str
    tokenizer_hash: str
    num_head_tokens: int
    """The first rows of the embedding: what the drafter may propose."""


@dataclass(frozen=True, slots=True)
class DrafterCheckpoint:
    """A drafter as stored."""

    manifest: DrafterManifest
    shape: LlamaShape
    token_ids: tuple[int, ...]
    """The target's id of each embedding row but the last."""
    weights: Mapping[str, Tensor]
    """By transformers' Llama names, in the dtype stored."""

    def __post_init__(self) -> None:
        num_rows, num_head = self.weights[EMBEDDING].shape[0], self.manifest.num_head_tokens
        if len(self.token_ids) != num_rows - 1:
            raise ValueError(
                f"{TOKEN_IDS} names {len(self.token_ids)} tokens but the embedding has {num_rows} rows; "
                "there must be one row more than tokens"
            )
        if not 1 <= num_head <= len(self.token_ids):
            raise ValueError(f"num_head_tokens is {num_head}; it must be 1 to {len(self.token_ids)}")
        if len(set(self.token_ids)) != len(self.token_ids):
            raise ValueError(f"{TOKEN_IDS} names a token twice; train the drafter again")

    def row_of_token(self, vocab_size: int) -> list[int]:
        """The embedding row that stands for each of the target's tokens."""
        if max(self.token_ids) >= vocab_size or min(self.token_ids) < 0:
            raise ValueError(
                f"the drafter's token ids go from {min(self.token_ids)} to {max(self.token_ids)} but the target has "
                f"{vocab_size} tokens; use a drafter trained for this target"
            )
        rows = [len(self.token_ids)] * vocab_size
        for row, token in enumerate(self.token_ids):
            rows[token] = row
        return rows


def read_manifest(directory: Path) -> DrafterManifest:
    """For whom the drafter in `directory` was trained; cheap, reads no weights."""
    fields = _read_json(directory / "drafter.json")
    return DrafterManifest(
        language=str(fields.get("language", "")),
        target_id=str(fields.get("target_id", "")),
        tokenizer_hash=str(fields.get("tokenizer_hash", "")),
        num_head_tokens=_integer(fields, "num_head_tokens"),
    )


def load_checkpoint(directory: Path) -> DrafterCheckpoint:
    """Read a drafter's directory; ValueError says what is wrong with it."""
    shape = LlamaShape.from_config(_read_json(directory / "config.json"))
    path = directory / "model.safetensors"
    if not path.is_file():
        raise ValueError(f"drafter {directory.name} has no {path.name}; train it or correct the path")
    weights = load_file(path)
    missing = sorted({EMBEDDING, TOKEN_IDS, "model.norm.weight"} - weights.keys())
    if missing:
        raise ValueError(f"drafter {directory.name}: {path.name} lacks {', '.join(missing)}; train the drafter again")
    token_ids = tuple(weights.pop(TOKEN_IDS).to(torch.int64).tolist())
    return DrafterCheckpoint(read_manifest(directory), shape, token_ids, weights)


def _read_json(path: Path) -> dict[str, object]:
    if not path.is_file():
        raise ValueError(f"drafter {path.parent.name} has no {path.name}; train it or correct the path")
    fields = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(fields, dict):
        raise ValueError(f"drafter {path.parent.name}: {path.name} is not a JSON object")
    return fields


def _integer(fields: Mapping[str, object], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int):
        raise ValueError(f"{name} is {value!r}; it must be an integer")
    return value
