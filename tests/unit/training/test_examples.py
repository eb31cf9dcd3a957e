"""Only answers are learnt."""

from __future__ import annotations

import random

import torch
from tokenizers import Tokenizer

from training.corpus import Pair
from training.examples import IGNORED, Example, batches_by_length, encode_pairs, make_batch, sample_pairs
from training.loop import answer_loss

EXAMPLES = [Example((5, 6, 7), (8, 9, 1)), Example((5, 4), (3, 1))]


def test_labels_are_the_answer_and_nothing_else() -> None:
    batch = make_batch(EXAMPLES)

    assert batch.ids_BT.tolist() == [[5, 6, 7, 8, 9, 0, 0, 0], [5, 4, 3, 0, 0, 0, 0, 0]]
    skip = IGNORED
    assert batch.labels_BT.tolist() == [[skip, skip, 8, 9, 1, skip, skip, skip], [skip, 3, 1, *[skip] * 5]]


def test_prompt_positions_get_exactly_zero_gradient() -> None:
    torch.manual_seed(0)
    batch = make_batch(EXAMPLES)
    hidden_BTD = torch.randn(2, 8, 16, requires_grad=True)
    head_VD = torch.randn(12, 16)

    answer_loss(hidden_BTD, head_VD, batch.labels_BT, IGNORED).backward()  # type: ignore[no-untyped-call]  # torch

    assert hidden_BTD.grad is not None
    labelled_BT = batch.labels_BT != IGNORED
    assert hidden_BTD.grad[~labelled_BT].eq(0).all()
    assert hidden_BTD.grad[labelled_BT].ne(0).any(dim=1).all()


def test_encoded_answers_end_with_eos(tiny_tokenizer: Tokenizer) -> None:
    example = encode_pairs(tiny_tokenizer, [Pair("de", "Der Wagen3 steht im Hof.", "The car number 3 waits")])[0]

    assert example.answer_ids[-1] == tiny_tokenizer.token_to_id("</s>")
    assert tiny_tokenizer.decode(list(example.prompt_ids)).endswith("im Hof.\n")


def test_a_pass_holds_every_example_once() -> None:
    examples = [Example((2,) * (1 + i % 7), (10 + i, 1)) for i in range(50)]

    batches = list(batches_by_length(examples, 40, random.Random(0)))

    firsts = [row[row != IGNORED][0].item() for batch in batches for row in batch.labels_BT]
    assert sorted(firsts) == [10 + i for i in range(50)]


def test_packs_keep_sentences_in_step() -> None:
    pairs = [Pair("ja", f"<{i}>", f"[{i}]") for i in range(30)]

    packs = sample_pairs(pairs, 30, 4, 0.0, random.Random(1))

    assert sum(pack.source.count("<") for pack in packs) == 30
    assert {pack.source.count("<") for pack in packs} == {1, 2, 3, 4}
    for pack in packs:
        assert pack.source.replace("<", "[").replace(">", "]") == pack.english.replace(" ", "")
