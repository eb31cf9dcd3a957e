"""Drafters as the configuration names them, for a tier of their own and for the target's step alike."""

from __future__ import annotations

from pathlib import Path

from cluster.config import Config
from cluster.errors import ConfigError
from cluster.model_files import target_facts
from cluster.probes import tokenizer_hash
from engine.drafters import Drafter, DrafterConfig, create_drafter
from engine.drafters.checkpoint import read_manifest
from engine.identity import eos_ids, target_id
from engine.verify.verifiers import VERIFIERS


def configured_drafter(config: Config, name: str, device: str, model: Path | None = None) -> Drafter:
    """Load one, or another version of it from `model`. ValueError says what is wrong with its directory."""
    drafter, target = config.drafters[name], config.target.model
    return create_drafter(
        DrafterConfig(
            method=drafter.method,
            vocab_size=target_facts(config).vocab_size,
            eos_token_ids=tuple(eos_ids(target)),
            model=model or drafter.model,
            max_nodes=drafter.max_draft_tokens,
            device=device,
            draws=not VERIFIERS[config.target.verifier].judges_any_draft,
        )
    )


def check_local_drafters(config: Config) -> None:
    """Raise ConfigError if a drafter placed in the target's step was trained for another target.

    Those of a tier say whom they were trained for when a router greets them.
    """
    target = config.target.model
    for name, drafter in config.target_drafters.items():
        if drafter.model is None:
            continue
        try:
            manifest = read_manifest(drafter.model)
        except ValueError as error:
            raise ConfigError(f"drafters.{name}.model: {error}") from None
        found = (manifest.target_id, manifest.tokenizer_hash)
        if found != (target_id(target), tokenizer_hash(target / "tokenizer.json")):
            raise ConfigError(
                f"drafters.{name}.model: drafter {name} was trained for target {manifest.target_id}; train one for "
                f"{target_id(target)} or take it out of the configuration"
            )
