"""Stage P: one drafter for the mixture of languages, with the target's whole vocabulary.

The languages' drafters start from it. The softmax runs over the tokens that the labels hold: a drafter proposes no
other ones, and the step is much cheaper where the target's vocabulary is wider than its answers.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from training.examples import IGNORED, Batch, Example, groups_by_length, make_batch
from training.loop import MakeBatch, Schedule, answer_loss, train
from training.world import World


def pretrain(
    model: LlamaForCausalLM,
    examples: Mapping[str, Sequence[Example]],
    schedule: Schedule,
    tokens_per_batch: int,
    seed: int,
    work: Path,
    world: World,
) -> None:
    """Train (or go on training) on an even mixture of the languages and leave the checkpoint in `work`.

    A pass takes as many examples of each language as the smallest one has.
    """
    label_ids_H, label_of_id_V = label_tokens([e for of in examples.values() for e in of], model.config.vocab_size)
    count = min(len(of_language) for of_language in examples.values())

    def make_pass(number: int, progress: float) -> list[MakeBatch]:
        rng = random.Random(f"{seed}/{number}")
        chosen = [example for of_language in examples.values() for example in rng.sample(of_language, count)]
        groups = groups_by_length(chosen, tokens_per_batch, rng)
        return [partial(make_batch, [chosen[i] for i in group]) for group in groups]

    def loss_of(batch: Batch) -> Tensor:
        hidden_BTD = model.model(batch.ids_BT.to(model.device), use_cache=False).last_hidden_state
        labels_BT = torch.where(batch.labels_BT == IGNORED, IGNORED, label_of_id_V[batch.labels_BT]).to(model.device)
        return answer_loss(hidden_BTD, model.lm_head.weight[label_ids_H.to(model.device)], labels_BT, IGNORED)

    train(model, loss_of, make_pass, schedule, work, world)


def label_tokens(examples: Sequence[Example], vocab_size: int) -> tuple[Tensor, Tensor]:
    """The ids that answers hold, int64 [H], and for each id its place among them, int64 [V]."""
    used = {token for example in examples for token in example.answer_ids}
    label_ids_H = torch.tensor(sorted(used))
    label_of_id_V = torch.full((vocab_size,), IGNORED)
    label_of_id_V[label_ids_H] = torch.arange(len(label_ids_H))
    return label_ids_H, label_of_id_V
