"""The weights that a drafter's training starts from, checked to fit before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from engine.drafters.checkpoint import read_manifest
from engine.identity import tokenizer_hash
from training import provenance
from training.checkpoints import read_weights
from training.drafter import TrimmedVocabulary, load_drafter, trim
from training.rows import TargetEmbedding, with_rows_of
from training.run import Run


def finetuning_start(run: Run, vocabulary: TrimmedVocabulary) -> dict[str, Tensor] | None:
    """The weights that fine-tuning starts from; None: random ones."""
    settings = run.recipe.finetune
    match settings.start_from:
        case "pretrain":
            return _pretrained(run, vocabulary)
        case "drafter":
            assert settings.drafter is not None  # the recipe's own check
            return _of_drafter(run, settings.drafter, vocabulary)
    return None


def _of_drafter(run: Run, directory: Path, vocabulary: TrimmedVocabulary) -> dict[str, Tensor]:
    """Another drafter's weights with this vocabulary's rows. ValueError if target or shape is another one."""
    manifest, wanted = read_manifest(directory), run.target_facts["target"]
    if manifest.target_id != wanted:
        raise ValueError(
            f"{directory} is a drafter of target {manifest.target_id}, not of {wanted}; choose another start"
        )
    drafter, known = load_drafter(directory)
    state = with_rows_of(drafter.state_dict(), known, vocabulary, TargetEmbedding.find(run.recipe.target))
    _check_shapes(directory, state, run.new_drafter(vocabulary.num_rows))
    return state


def _pretrained(run: Run, vocabulary: TrimmedVocabulary) -> dict[str, Tensor]:
    """Stage P's weights with the language's rows. ValueError if they know another tokenizer."""
    weights = read_weights(run.pretrain_dir)
    found, wanted = provenance.read(run.pretrain_dir)["made_from"]["tokenizer"], run.tokenizer_facts["tokenizer"]
    if found != wanted:
        raise ValueError(
            f"{run.pretrain_dir} was trained with tokenizer {found}, the target has {wanted}; "
            "pretrain again for this target in another `work`"
        )
    return trim(weights, vocabulary)


def weights_of_llama(directory: Path, target_dir: Path, drafter: LlamaForCausalLM) -> dict[str, Tensor]:
    """Of a Llama in transformers' form; ValueError if its tokenizer or its shape is another one."""
    ours, theirs = (tokenizer_hash(place / "tokenizer.json") for place in (target_dir, directory))
    if ours != theirs:
        raise ValueError(
            f"{directory}: its tokenizer {theirs} is not the target's {ours}; "
            "start from a model of the target's family, or leave start_from out"
        )
    state: dict[str, Tensor] = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32).state_dict()
    _check_shapes(directory, state, drafter)
    return state


def _check_shapes(directory: Path, state: Mapping[str, Tensor], drafter: LlamaForCausalLM) -> None:
    wanted = {name: tensor.shape for name, tensor in drafter.state_dict().items()}
    differing = sorted(name for name in {*wanted, *state} if name not in state or state[name].shape != wanted.get(name))
    if differing:
        raise ValueError(f"{directory}: {differing[0]} and {len(differing) - 1} others do not fit; correct `drafter`")
