"""Tokenised prompt-and-answer examples and the batches made of them; the loss counts answers only.

Shape letters: B examples, T tokens.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from training.corpus import Pair, pack, prompt_text

IGNORED = -100
LENGTH_STEP = 4
"""Batches are padded to a multiple of this, so that few shapes occur."""


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and its answer; the answer ends with EOS."""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.answer_ids)


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded examples. Causal attention never looks at the padding, so there is no mask."""

    ids_BT: Tensor
    labels_BT: Tensor
    """The next token where it belongs to an answer, else `IGNORED`."""


def eos_id(tokenizer: Tokenizer) -> int:
    """The id that ends an answer; raises ValueError if the tokenizer has none."""
    token = tokenizer.token_to_id("</s>")
    if token is None:
        raise ValueError("the tokenizer has no token </s>; make one with `polydraft train tokenizer`")
    return int(token)


def encode_pairs(tokenizer: Tokenizer, pairs: Sequence[Pair]) -> list[Example]:
    """Examples of the pairs, in order."""
    eos = eos_id(tokenizer)
    prompts = tokenizer.encode_batch([prompt_text(pair.language, pair.source) for pair in pairs])
    answers = tokenizer.encode_batch([pair.english for pair in pairs])
    return [Example(tuple(p.ids), (*a.ids, eos)) for p, a in zip(prompts, answers, strict=True)]


def make_batch(examples: Sequence[Example]) -> Batch:
    """Pad and shift: the label of a position is the token after it."""
    longest = max(len(example) for example in examples) - 1
    width = -(-longest // LENGTH_STEP) * LENGTH_STEP
    ids = np.zeros((len(examples), width), dtype=np.int64)
    labels = np.full((len(examples), width), IGNORED, dtype=np.int64)
    for row, example in enumerate(examples):
        tokens = example.prompt_ids + example.answer_ids
        first = len(example.prompt_ids) - 1
        ids[row, : len(tokens) - 1] = tokens[:-1]
        labels[row, first : len(tokens) - 1] = example.answer_ids
    return Batch(torch.from_numpy(ids), torch.from_numpy(labels))


def groups_by_length(examples: Sequence[Example], tokens_per_batch: int, rng: random.Random) -> list[list[int]]:
    """Indices of all `examples` in groups of about one length, the groups in random order."""
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i]), rng.random()))
    groups: list[list[int]] = [[]]
    for index in order:
        if groups[-1] and len(examples[index]) * (len(groups[-1]) + 1) > tokens_per_batch:
            groups.append([])
        groups[-1].append(index)
    rng.shuffle(groups)
    return groups


def batches_by_length(examples: Sequence[Example], tokens_per_batch: int, rng: random.Random) -> Iterator[Batch]:
    """One pass over `examples`: neighbours in length share a batch, batches come in random order."""
    for group in groups_by_length(examples, tokens_per_batch, rng):
        yield make_batch([examples[i] for i in group])


def sample_pairs(
    pairs: Sequence[Pair], count: int, max_packed: int, single_share: float, rng: random.Random
) -> list[Pair]:
    """Examples of about `count` pairs: `single_share` of them hold one sentence, the others 1 to `max_packed`."""
    chosen = [pairs[i] for i in rng.sample(range(len(pairs)), min(count, len(pairs)))]
    packed: list[Pair] = []
    while chosen:
        size = 1 if rng.random() < single_share else rng.randint(1, max_packed)
        packed.append(pack(chosen[-size:]))
        del chosen[-size:]
    return packed
