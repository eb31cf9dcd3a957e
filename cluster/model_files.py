"""What the control plane reads from model directories: whether they are complete, and the target's few facts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cluster.config import Config
from cluster.drafter_config import TEXT_METHODS
from cluster.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """Of the target's config.json."""

    vocab_size: int
    max_context: int
    """Positions of one sequence; the configuration may lower it."""


def check_models(config: Config) -> None:
    """ConfigError when a directory that the configuration names lacks what a model needs."""
    _check("target.model", config.target.model, ("config.json", "tokenizer.json"))
    for name, drafter in config.drafters.items():
        for key, directory in drafter.model_files.items():
            if drafter.method in TEXT_METHODS:
                _check_files(f"drafters.{name}.{key}", directory, ("ngrams.json",))
            else:
                _check(f"drafters.{name}.{key}", directory, ("config.json", "drafter.json"))


def target_facts(config: Config) -> TargetFacts:
    """Vocabulary and context of the target. ConfigError if it cannot be served as the configuration wants."""
    path = config.target.model / "config.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        # Multimodal families keep the language model's fields in a section of their own.
        document = document.get("text_config", document)
        vocab_size, positions = int(document["vocab_size"]), int(document["max_position_embeddings"])
        num_kv_heads = int(document.get("num_key_value_heads") or document.get("num_attention_heads") or 1)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"target.model: {path} does not tell vocab_size and max_position_embeddings ({type(error).__name__}); "
            "give a complete transformers directory"
        ) from None
    if config.target.max_context is not None and config.target.max_context > positions:
        raise ConfigError(f"target.max_context: {config.target.max_context} exceeds the model's {positions}; lower it")
    if config.target.shards > num_kv_heads:
        raise ConfigError(f"target.shards: {config.target.shards} exceeds the {num_kv_heads} KV heads; lower it")
    return TargetFacts(vocab_size, config.target.max_context or positions)


def _check_files(key: str, directory: Path, files: tuple[str, ...]) -> None:
    if not directory.is_dir():
        raise ConfigError(f"{key}: {directory} is not a directory; train the model or correct the path")
    for file in files:
        if not (directory / file).is_file():
            raise ConfigError(f"{key}: {directory} holds no {file}; it must be a complete model directory")


def _check(key: str, directory: Path, files: tuple[str, ...]) -> None:
    _check_files(key, directory, files)
    if not any(directory.glob("*.safetensors")):
        raise ConfigError(f"{key}: {directory} holds no *.safetensors; weights in other formats are not loaded")
