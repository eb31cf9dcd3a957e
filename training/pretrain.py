"""Stage P: one drafter for the mixture of languages, on the corpus' own translations, with the whole vocabulary.

The five drafters start from it; it needs the tokenizer, not the target. The softmax runs over the tokens that occur
in translations (2,100 of 8,192): a drafter proposes no other ones, and the step is much cheaper.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaForCausalLM

from training.corpus import Pair, everyday_pairs
from training.drafter import drafter_config
from training.examples import IGNORED, Batch, batches_by_length, encode_pairs, eos_id, sample_pairs
from training.loop import Schedule, answer_loss, train

SEED = 20_261_122
PAIRS_A_PASS = 3_000
"""Pairs drawn from each language for one pass: the mixture is even."""
SINGLE_SHARE = 0.3
"""Share of the examples that hold one sentence; the others pack 1 to 4."""
MAX_PACKED = 4
WEIGHT_DECAY = 0.1


def pretrain_schedule(minutes: float, num_threads: int) -> Schedule:
    """One thread counts its own processor time, so that a busy machine makes the run longer and not worse."""
    clock = time.process_time if num_threads == 1 else time.perf_counter
    return Schedule(minutes, weight_decay=WEIGHT_DECAY, checkpoint_every_s=120.0, clock=clock)


def pretrain_drafter(corpus: Path, tokenizer_dir: Path, work: Path, schedule: Schedule, tokens_per_batch: int) -> None:
    """Train (or go on training) and leave the checkpoint in `work`."""
    torch.manual_seed(SEED)
    tokenizer = Tokenizer.from_file(str(tokenizer_dir / "tokenizer.json"))
    pairs = everyday_pairs(corpus, "train")
    model = LlamaForCausalLM(drafter_config(tokenizer.get_vocab_size()))
    head_ids_H, label_of_id_V = answer_tokens(tokenizer, pairs)

    def batches_at(progress: float) -> Iterator[Batch]:
        rng = random.Random(f"{SEED}/{progress}")
        chosen: list[Pair] = []
        for of_language in pairs.values():
            chosen += sample_pairs(of_language, PAIRS_A_PASS, MAX_PACKED, SINGLE_SHARE, rng)
        yield from batches_by_length(encode_pairs(tokenizer, chosen), tokens_per_batch, rng)

    def loss_of(batch: Batch) -> Tensor:
        hidden_BTD = model.model(batch.ids_BT, use_cache=False).last_hidden_state
        labels_BT = torch.where(batch.labels_BT == IGNORED, IGNORED, label_of_id_V[batch.labels_BT])
        return answer_loss(hidden_BTD, model.lm_head.weight[head_ids_H], labels_BT, IGNORED)

    train(model, loss_of, batches_at, schedule, work)


def answer_tokens(tokenizer: Tokenizer, pairs: dict[str, list[Pair]]) -> tuple[Tensor, Tensor]:
    """The ids that occur in translations, int64 [H], and for each id its place among them, int64 [V]."""
    used = {eos_id(tokenizer)}
    for of_language in pairs.values():
        for encoding in tokenizer.encode_batch_fast([pair.english for pair in of_language]):
            used.update(encoding.ids)
    head_ids_H = torch.tensor(sorted(used))
    label_of_id_V = torch.full((tokenizer.get_vocab_size(),), IGNORED)
    label_of_id_V[head_ids_H] = torch.arange(len(head_ids_H))
    return head_ids_H, label_of_id_V
