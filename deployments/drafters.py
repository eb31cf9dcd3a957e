"""Drafters as the configuration names them, for a tier of their own and for the target's step alike."""

from __future__ import annotations

from pathlib import Path

from cluster import drafter_config as cluster_config
from cluster.config import Config
from cluster.errors import ConfigError
from cluster.model_files import target_facts
from cluster.probes import tokenizer_hash
from engine.drafters import Drafter, DrafterConfig, create_drafter
from engine.drafters.checkpoint import DrafterManifest, read_manifest
from engine.drafters.skip_file import FILE_NAME, read_skip_file
from engine.drafters.text.table import TableManifest, read_table_manifest
from engine.identity import eos_ids, target_id
from engine.verify.verifiers import VERIFIERS


def configured_drafter(config: Config, name: str, device: str, model: Path | None = None) -> Drafter:
    """Load one, or another version of it from `model`. ValueError says what is wrong with its directory."""
    draws = not VERIFIERS[config.target.verifier].judges_any_draft
    return create_drafter(_settings(config, name, device, model, draws=draws))


def _settings(config: Config, name: str, device: str, model: Path | None = None, *, draws: bool) -> DrafterConfig:
    drafter = config.drafters[name]
    return DrafterConfig(
        method=drafter.method,
        vocab_size=target_facts(config).vocab_size,
        eos_token_ids=tuple(eos_ids(config.target.model)),
        model=model or drafter.model,
        models=drafter.models,
        max_nodes=drafter.max_draft_tokens,
        branching=drafter.branching,
        widths=drafter.widths,
        device=device,
        draws=draws,
        # What leaves a cascade follows the law of its first; the others only guess.
        stages=tuple(_settings(config, part, device, draws=draws and part == drafter.of[0]) for part in drafter.of),
        hand_over_after=drafter.hand_over_after,
        skip_file=_skip_file(config, name) if drafter.method == "layer_skip" else None,
    )


def _skip_file(config: Config, name: str) -> Path:
    return config.drafters[name].skip_file or config.target.model / FILE_NAME


def manifest_of(drafter: cluster_config.DrafterConfig, model: Path) -> DrafterManifest | TableManifest:
    """What a drafter's directory says of itself; ValueError if it says nothing."""
    return read_table_manifest(model) if drafter.method in cluster_config.TEXT_METHODS else read_manifest(model)


def trained_for(config: Config, name: str) -> tuple[str, str] | None:
    """Target id and tokenizer hash that a drafter, and each that it is made of, was trained for; None: for any.

    Raises ConfigError if they are not all the same.
    """
    found: dict[tuple[str, str], str] = {}
    for part in (name, *config.drafters[name].of):
        for key, model in config.drafters[part].model_files.items():
            try:
                manifest = manifest_of(config.drafters[part], model)
            except ValueError as error:
                raise ConfigError(f"drafters.{part}.{key}: {error}") from None
            found.setdefault((manifest.target_id, manifest.tokenizer_hash), f"drafters.{part}.{key}")
    if len(found) > 1:
        trained = " and ".join(f"{key} for target {target}" for (target, _), key in found.items())
        raise ConfigError(f"drafters.{name}: its models were trained for unlike targets: {trained}")
    return next(iter(found), None)


def check_local_drafters(config: Config) -> None:
    """Raise ConfigError if a drafter in the target's step was made for another target, or drafts what the verifier
    may not judge.

    Those of a tier say whom they were trained for when a router greets them.
    """
    target = config.target.model
    verifier = VERIFIERS[config.target.verifier]
    for name in config.target_drafters:
        _check_skip_files(config, name)
        found = trained_for(config, name)
        if found is not None and found != (target_id(target), tokenizer_hash(target / "tokenizer.json")):
            raise ConfigError(
                f"drafters.{name}.model: drafter {name} was trained for target {found[0]}; train one for "
                f"{target_id(target)} or take it out of the configuration"
            )
        if not verifier.judges_any_draft:
            try:
                verifier.check_lawful(configured_drafter(config, name, "cpu").law, is_greedy=False)
            except ValueError as error:
                raise ConfigError(f"drafters.{name}: {error}") from None


def _check_skip_files(config: Config, name: str) -> None:
    """Raise ConfigError if a file of sublayers, its own or of what it is made of, is missing or another target's."""
    for part in (name, *config.drafters[name].of):
        if config.drafters[part].method != "layer_skip":
            continue
        path = _skip_file(config, part)
        try:
            chosen_for = read_skip_file(path).target_id
        except ValueError as error:
            raise ConfigError(f"drafters.{part}: {error}") from None
        if chosen_for != (own := target_id(config.target.model)):
            raise ConfigError(
                f"drafters.{part}: {path} was chosen for target {chosen_for}, this one is {own}; "
                "make one with `polydraft tune layer-skip`"
            )
