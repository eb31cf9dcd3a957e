"""Only answers are learnt."""

from __future__ import annotations

import random

import torch

from training.examples import IGNORED, Example, groups_by_length, make_batch
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


def test_a_pass_holds_every_example_once() -> None:
    examples = [Example((2,) * (1 + i % 7), (10 + i, 1)) for i in range(50)]

    groups = groups_by_length(examples, 40, random.Random(0))

    assert sorted(index for group in groups for index in group) == list(range(50))
    assert all(len(group) * max(len(examples[i]) for i in group) <= 40 for group in groups)
