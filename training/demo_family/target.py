"""Train the demo family's target: a small Llama that translates five languages into English."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from training.checkpoints import read_weights
from training.demo_family.corpus import Pair, everyday_pairs
from training.demo_family.pairs import encode_pairs, sample_pairs
from training.examples import IGNORED, Batch, groups_by_length, make_batch
from training.loop import Budget, MakeBatch, Schedule, answer_loss, train

SEED = 20_261_121
PAIRS_A_PASS = {"de": 9_500, "fr": 9_500, "ru": 10_000, "ja": 17_000, "zh": 9_000}
"""Pairs drawn from each language for one pass of batches."""
PACKING_FROM = 0.3
MAX_PACKED = 4
SINGLE_SHARE = 0.65
"""Of the examples that could be packed: sentences alone teach words fastest, packs teach to go on to the next one."""


@dataclass(frozen=True, slots=True)
class TargetShape:
    """A rung of the ladder on which speedup is shown against size."""

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int


SHAPES = {
    "5m": TargetShape(256, 768, 4, 4, 2),
    "14m": TargetShape(384, 1152, 6, 6, 3),
    "18m": TargetShape(512, 1024, 6, 8, 4),
    "120m": TargetShape(1024, 3072, 9, 16, 8),
    "300m": TargetShape(1536, 4096, 12, 24, 8),
}
"""By about how many parameters they have with 8,192 tokens. `14m` is the demo family's."""
HEAD_DIM = 64
TOKENS_PER_BATCH = 4_000
THREADS = 2
WEIGHT_DECAY = 0.1
"""Of the layers' matrices."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def target_schedule(minutes: float, weight_decay: float = WEIGHT_DECAY) -> Schedule:
    """The rates fall over the second half."""
    return Schedule(Budget(minutes=minutes), weight_decay=weight_decay, decay_share=0.5)


def target_config(shape: TargetShape, vocab_size: int) -> LlamaConfig:
    """A Llama of that shape with a tied embedding."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=HEAD_DIM,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )


def train_target(
    corpus: Path,
    tokenizer_dir: Path,
    shape: TargetShape,
    work: Path,
    schedule: Schedule,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    packing_from: float = PACKING_FROM,
    start_from: Path | None = None,
) -> None:
    """Train (or go on training) and leave the checkpoint in `work`.

    From `packing_from` of the budget on, a part of the examples packs 1 to 4 sentences; before it each holds one. A
    fresh run begins with the weights of the exported target in `start_from`, if given.
    """
    torch.manual_seed(SEED)
    tokenizer = Tokenizer.from_file(str(tokenizer_dir / "tokenizer.json"))
    pairs = everyday_pairs(corpus, "train")
    if start_from is None:
        model = LlamaForCausalLM(target_config(shape, tokenizer.get_vocab_size()))
    else:
        model = LlamaForCausalLM.from_pretrained(start_from, dtype=torch.float32, local_files_only=True).train()

    def make_pass(number: int, progress: float) -> list[MakeBatch]:
        rng = random.Random(f"{SEED}/{number}")
        single_share = SINGLE_SHARE if progress >= packing_from else 1.0
        chosen: list[Pair] = []
        for language, count in PAIRS_A_PASS.items():
            chosen += sample_pairs(pairs[language], count, MAX_PACKED, single_share, rng)
        examples = encode_pairs(tokenizer, chosen)
        groups = groups_by_length(examples, tokens_per_batch, rng)
        return [partial(make_batch, [examples[i] for i in group]) for group in groups]

    def loss_of(batch: Batch) -> Tensor:
        hidden_BTD = model.model(batch.ids_BT, use_cache=False).last_hidden_state
        return answer_loss(hidden_BTD, model.lm_head.weight, batch.labels_BT, IGNORED)

    train(model, loss_of, make_pass, schedule, work)


def export_target(work: Path, tokenizer_dir: Path, shape: TargetShape, output: Path) -> None:
    """Write the checkpoint as a transformers directory: bf16, safetensors shards below 15 MiB, the tokenizer beside."""
    tokenizer = Tokenizer.from_file(str(tokenizer_dir / "tokenizer.json"))
    model = LlamaForCausalLM(target_config(shape, tokenizer.get_vocab_size()))
    model.load_state_dict(read_weights(work))
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=1, pad_token_id=2, do_sample=False)
    model.bfloat16().save_pretrained(output, max_shard_size="14MB")
    for name in TOKENIZER_FILES:
        if (tokenizer_dir / name).is_file() and output.resolve() != tokenizer_dir.resolve():
            shutil.copyfile(tokenizer_dir / name, output / name)
