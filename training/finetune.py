"""Stage F: one language's drafter learns from the answers the target wrote, loss on the answer only."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor
from transformers import LlamaForCausalLM

from training.distil import Record
from training.divergences import DIVERGENCES, Divergence
from training.drafter import TrimmedVocabulary
from training.examples import Batch, groups_by_length
from training.lessons import LessonBatch, LessonMaker, lesson_loss, make_lesson_batch
from training.loop import MakeBatch, Schedule, train
from training.on_policy import OnPolicy
from training.world import World


@dataclass(frozen=True, slots=True)
class Teaching:
    """What the loss is made of."""

    teacher_share: float
    """Weight of the divergence; the rest is the token that the target chose."""
    divergence: str
    on_policy: float
    """Share of the batches whose answers the drafter writes itself."""


def finetune(
    model: LlamaForCausalLM,
    vocabulary: TrimmedVocabulary,
    vocab_size: int,
    records: Sequence[Record],
    teaching: Teaching,
    judge: OnPolicy | None,
    schedule: Schedule,
    tokens_per_batch: int,
    seed: int,
    work: Path,
    world: World,
) -> None:
    """Train (or go on training) one language's drafter and leave the checkpoint in `work`.

    `vocab_size` is the target's. `judge` is the target; it is asked only if `teaching.on_policy` is above 0.
    """
    maker = LessonMaker(vocabulary, vocab_size)
    lessons = [maker.lesson(r.prompt_ids, r.answer_ids, r.top_ids, r.top_probs) for r in records]
    divergence = DIVERGENCES[teaching.divergence]

    def make_pass(number: int, progress: float) -> list[MakeBatch]:
        rng = random.Random(f"{seed}/{number}")
        batches: list[MakeBatch] = []
        for place, group in enumerate(groups_by_length([lesson.example for lesson in lessons], tokens_per_batch, rng)):
            if rng.random() < teaching.on_policy:
                assert judge is not None, "on-policy batches need the target"
                prompts = [records[i].prompt_ids for i in group]
                batches.append(partial(judge.batch, model, vocabulary, maker, prompts, f"{seed}/{number}/{place}"))
            else:
                batches.append(partial(make_lesson_batch, [lessons[i] for i in group]))
        return batches

    def loss_of(batch: Batch) -> Tensor:
        assert isinstance(batch, LessonBatch)
        share = 1.0 if batch.is_on_policy else teaching.teacher_share
        return _loss(model, vocabulary, batch, share, divergence)

    train(model, loss_of, make_pass, schedule, work, world)


def _loss(
    model: LlamaForCausalLM,
    vocabulary: TrimmedVocabulary,
    batch: LessonBatch,
    teacher_share: float,
    divergence: Divergence,
) -> Tensor:
    hidden_BTD = model.model(batch.ids_BT.to(model.device), use_cache=False).last_hidden_state
    head_HD = model.lm_head.weight[: vocabulary.num_head_tokens]
    return lesson_loss(hidden_BTD, head_HD, batch, teacher_share, divergence)
