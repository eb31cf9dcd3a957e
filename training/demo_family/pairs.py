"""Sentence pairs as examples to learn from: alone or packed, as token ids."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tokenizers import Tokenizer

from training.demo_family.corpus import Pair, pack, prompt_text
from training.examples import Example


def eos_id(tokenizer: Tokenizer) -> int:
    """The id that ends an answer; raises ValueError if the tokenizer has none."""
    token = tokenizer.token_to_id("</s>")
    if token is None:
        raise ValueError("the tokenizer has no token </s>; make one with the step `tokenizer`")
    return int(token)


def encode_pairs(tokenizer: Tokenizer, pairs: Sequence[Pair]) -> list[Example]:
    """Examples of the pairs, in order."""
    eos = eos_id(tokenizer)
    prompts = tokenizer.encode_batch([prompt_text(pair.language, pair.source) for pair in pairs])
    answers = tokenizer.encode_batch([pair.english for pair in pairs])
    return [Example(tuple(p.ids), (*a.ids, eos)) for p, a in zip(prompts, answers, strict=True)]


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
