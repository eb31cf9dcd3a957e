"""The target's translations are scored against the pairs."""

from __future__ import annotations

import random

from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from training.demo_family.corpus import Pair, prompt_text
from training.demo_family.quality import pack_in_order, quality
from training.generation import write_greedily

PAIRS = [Pair("de", f"Der Wagen{i} steht im Hof.", f"The car number {i} waits") for i in range(8)]


def test_what_the_target_writes_scores_full_marks(tiny_model: LlamaForCausalLM, tiny_tokenizer: Tokenizer) -> None:
    prompts = [tiny_tokenizer.encode(prompt_text("de", pair.source)).ids for pair in PAIRS]
    texts = tiny_tokenizer.decode_batch(write_greedily(tiny_model, prompts, [1], 128))
    own = [Pair("de", pair.source, text) for pair, text in zip(PAIRS, texts, strict=True)]

    assert quality(tiny_model, tiny_tokenizer, own).chrf == 100.0
    assert quality(tiny_model, tiny_tokenizer, PAIRS).chrf < 60.0


def test_packs_use_each_sentence_once() -> None:
    packs = pack_in_order(PAIRS, 100, random.Random(0))

    assert " ".join(pack.source for pack in packs) == " ".join(pair.source for pair in PAIRS)
    assert len(pack_in_order(PAIRS, 2, random.Random(0))) == 2
