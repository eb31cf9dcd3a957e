"""A recipe being carried out: its places on disk, and what stages share.

work/pretrain/             checkpoint of the drafter for all languages
work/distil/<language>/    the target's answers
work/trim/<language>.json  the tokens that the language's drafter knows
work/finetune/<language>/  checkpoint of the language's drafter
work/evaluation.json       tokens a round of each drafter on each language
output/<language>/         the drafter as a configuration names it
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM, PretrainedConfig, PreTrainedModel

from engine.identity import target_id, tokenizer_hash
from training import provenance
from training.checkpoints import read_weights
from training.data import hash_of, name_of
from training.distil import Record, hash_seed, read_records
from training.drafter import TrimmedVocabulary, drafter_config
from training.loop import Budget, Schedule
from training.prompts import PromptEncoder
from training.recipe import Recipe, Source, Training
from training.trim import read_vocabulary
from training.world import World, this_world


class Run:
    """A recipe and the languages that are worked on."""

    def __init__(self, recipe: Recipe, languages: Sequence[str] = (), world: World | None = None) -> None:
        """Raises ValueError for a language that is not the recipe's, FileNotFoundError if there is no target."""
        if unknown := sorted(set(languages) - set(recipe.languages)):
            raise ValueError(f"the recipe has no language {', '.join(unknown)}; it has {', '.join(recipe.languages)}")
        if not (recipe.target / "tokenizer.json").is_file():
            raise FileNotFoundError(f"{recipe.target}: no tokenizer.json; give the target's transformers directory")
        self.recipe = recipe
        self.languages = tuple(languages or recipe.languages)
        self.world = world or this_world()

    # -- places --------------------------------------------------------------------------------------------------

    @property
    def pretrain_dir(self) -> Path:
        return self.recipe.work / "pretrain"

    def answers_dir(self, language: str) -> Path:
        return self.recipe.work / "distil" / language

    def vocabulary_file(self, language: str) -> Path:
        return self.recipe.work / "trim" / f"{language}.json"

    def finetune_dir(self, language: str) -> Path:
        return self.recipe.work / "finetune" / language

    # -- models --------------------------------------------------------------------------------------------------

    @cached_property
    def encoder(self) -> PromptEncoder:
        return PromptEncoder(self.recipe.target, self.recipe.chat)

    @cached_property
    def target(self) -> PreTrainedModel:
        dtype = getattr(torch, self.recipe.dtype)
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            self.recipe.target, dtype=dtype, local_files_only=True
        )
        model.to(self.recipe.device)  # type: ignore[arg-type]  # transformers wraps torch's `to`
        model.eval()
        return model

    @cached_property
    def vocab_size(self) -> int:
        """Rows of the target's head; some have more than the tokenizer has tokens."""
        return max(int(self._target_config.vocab_size), self.encoder.num_tokens)

    @property
    def max_positions(self) -> int:
        """What target and drafter can both hold."""
        return min(int(self._target_config.max_position_embeddings), self.recipe.drafter.max_positions)

    @cached_property
    def _target_config(self) -> PretrainedConfig:
        config: PretrainedConfig = AutoConfig.from_pretrained(self.recipe.target, local_files_only=True)
        return config.get_text_config()

    def new_drafter(self, num_rows: int) -> LlamaForCausalLM:
        """With random weights that the seed fixes."""
        torch.manual_seed(self.recipe.seed)
        drafter = LlamaForCausalLM(drafter_config(self.recipe.drafter, num_rows))
        drafter.to(self.recipe.device)  # type: ignore[arg-type]  # likewise
        return drafter

    def finetuned(self, language: str) -> tuple[LlamaForCausalLM, TrimmedVocabulary]:
        """The language's drafter as the last checkpoint has it; FileNotFoundError if there is none."""
        weights = read_weights(self.finetune_dir(language))
        vocabulary = self.vocabulary(language)
        drafter = self.new_drafter(vocabulary.num_rows)
        drafter.load_state_dict(weights)
        return drafter, vocabulary

    def vocabulary(self, language: str) -> TrimmedVocabulary:
        """Raises FileNotFoundError if none was chosen."""
        path = self.vocabulary_file(language)
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file; run the stage trim first")
        return read_vocabulary(path)

    # -- data ----------------------------------------------------------------------------------------------------

    def records(self, language: str) -> tuple[list[Record], list[Record]]:
        """The target's answers, to train on and held out, in an order that makes any beginning a fair sample.

        Raises ValueError if another target wrote them, FileNotFoundError if there are none.
        """
        directory = self.answers_dir(language)
        every = sorted(read_records(directory, language), key=lambda record: hash_seed(record.id))
        if not every:
            raise FileNotFoundError(f"{directory}: no answers; run the stage distil first")
        found, wanted = provenance.read(directory)["made_from"]["target"], self.target_facts["target"]
        if found != wanted:
            raise ValueError(f"{directory} holds answers of target {found}, not of {wanted}; use another `work`")
        judging = [record for record in every if record.is_for_judging]
        others = [record for record in every if not record.is_for_judging]
        held_out = [record for record in others if record.is_held_out]
        return [record for record in others if not record.is_held_out], judging or held_out

    # -- provenance ----------------------------------------------------------------------------------------------

    @cached_property
    def tokenizer_facts(self) -> dict[str, Any]:
        hashed = tokenizer_hash(self.recipe.target / "tokenizer.json")
        return {"tokenizer": hashed, "seed": self.recipe.seed}

    @cached_property
    def target_facts(self) -> dict[str, Any]:
        return self.tokenizer_facts | {"target": target_id(self.recipe.target)}

    def stamp(
        self, work: Path, made_from: Mapping[str, Any], settings: Mapping[str, Any], is_writer: bool = True
    ) -> None:
        """Note this run in `work`; see `provenance.stamp`."""
        provenance.stamp(work, made_from, settings, is_writer=is_writer and self.world.is_first)
        self.world.wait()

    def schedule(self, settings: Training) -> Schedule:
        """One thread counts its own processor time, so that a busy machine makes the run longer and not worse."""
        is_alone = self.recipe.threads == 1 and self.recipe.device == "cpu"
        return Schedule(
            Budget(settings.minutes, settings.steps, settings.passes),
            muon_lr=settings.muon_lr,
            adamw_lr=settings.adamw_lr,
            weight_decay=settings.weight_decay,
            num_warmup_steps=settings.warmup_steps,
            decay_share=settings.decay_share,
            checkpoint_every_s=settings.checkpoint_every_s,
            clock=time.process_time if is_alone else time.perf_counter,
        )


def hashes(sources: Iterable[Source]) -> dict[str, str]:
    """What data was read, by name."""
    return {name_of(source): hash_of(source) for source in sources}
