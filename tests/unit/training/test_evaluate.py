"""Rounds are counted as the cluster would take them."""

from __future__ import annotations

import random

import pytest
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from training.corpus import Pair
from training.drafter import TrimmedVocabulary
from training.evaluate import answer_pairs, count_rounds, foresight, hits, pack_in_order, quality
from training.examples import Example

PAIRS = [Pair("de", f"Der Wagen{i} steht im Hof.", f"The car number {i} waits") for i in range(8)]


@pytest.mark.parametrize(
    ("answer_hits", "max_drafted", "rounds"),
    [
        ([], 4, 0),
        ([False] * 3, 4, 3),
        ([True] * 10, 4, 2),
        ([True] * 11, 4, 3),
        ([True] * 4, 4, 1),
        ([True, True, False, True], 4, 2),
        ([True, False, True, True, True], 1, 3),
        ([True] * 3, 0, 3),
    ],
)
def test_rounds(answer_hits: list[bool], max_drafted: int, rounds: int) -> None:
    assert count_rounds(answer_hits, max_drafted) == rounds


def test_the_target_as_its_own_drafter_is_always_right(tiny_model: LlamaForCausalLM, tiny_tokenizer: Tokenizer) -> None:
    answered = answer_pairs(tiny_model, tiny_tokenizer, PAIRS)
    everything = TrimmedVocabulary(tuple(range(tiny_model.config.vocab_size)), tiny_model.config.vocab_size)

    found = foresight(tiny_model, everything, answered)

    num_tokens = sum(len(example.answer_ids) for example in answered)
    num_rounds = sum(-(-len(example.answer_ids) // 5) for example in answered)
    assert found.agreement == 1.0
    assert found.tokens_per_round == round(num_tokens / num_rounds, 3)


def test_hits_follow_the_order_of_the_answers(tiny_model: LlamaForCausalLM, tiny_tokenizer: Tokenizer) -> None:
    answered = answer_pairs(tiny_model, tiny_tokenizer, PAIRS[:4])
    changed = [Example(e.prompt_ids, (*e.answer_ids[:i], 2, *e.answer_ids[i + 1 :])) for i, e in enumerate(answered)]
    everything = TrimmedVocabulary(tuple(range(tiny_model.config.vocab_size)), tiny_model.config.vocab_size)

    found = hits(tiny_model, everything, changed)

    assert [len(of_answer) for of_answer in found] == [len(example.answer_ids) for example in changed]
    for place, of_answer in enumerate(found):
        assert of_answer[: place + 1] == [True] * place + [False]


def test_quality_of_perfect_answers(tiny_tokenizer: Tokenizer) -> None:
    answered = [Example((2,), (*tiny_tokenizer.encode(pair.english).ids, 1)) for pair in PAIRS]

    found = quality(tiny_tokenizer, PAIRS, answered)

    assert (found.chrf, found.bleu, found.num_prompts) == (100.0, 100.0, 8)


def test_packs_use_each_sentence_once() -> None:
    packs = pack_in_order(PAIRS, 100, random.Random(0))

    assert " ".join(pack.source for pack in packs) == " ".join(pair.source for pair in PAIRS)
    assert len(pack_in_order(PAIRS, 2, random.Random(0))) == 2
