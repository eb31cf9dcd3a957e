"""Pairs as examples."""

from __future__ import annotations

import random

from tokenizers import Tokenizer

from training.demo_family.corpus import Pair
from training.demo_family.pairs import encode_pairs, sample_pairs


def test_encoded_answers_end_with_eos(tiny_tokenizer: Tokenizer) -> None:
    example = encode_pairs(tiny_tokenizer, [Pair("de", "Der Wagen3 steht im Hof.", "The car number 3 waits")])[0]

    assert example.answer_ids[-1] == tiny_tokenizer.token_to_id("</s>")
    assert tiny_tokenizer.decode(list(example.prompt_ids)).endswith("im Hof.\n")


def test_packs_keep_sentences_in_step() -> None:
    pairs = [Pair("ja", f"<{i}>", f"[{i}]") for i in range(30)]

    packs = sample_pairs(pairs, 30, 4, 0.0, random.Random(1))

    assert sum(pack.source.count("<") for pack in packs) == 30
    assert {pack.source.count("<") for pack in packs} == {1, 2, 3, 4}
    for pack in packs:
        assert pack.source.replace("<", "[").replace(">", "]") == pack.english.replace(" ", "")
