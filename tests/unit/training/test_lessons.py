"""Lessons line up with the answers, and the loss is what it says."""

from __future__ import annotations

import torch

from training.divergences import ABSENT, forward_kl
from training.drafter import TrimmedVocabulary
from training.examples import IGNORED
from training.lessons import LessonMaker, lesson_loss, make_lesson_batch
from training.loop import answer_loss

VOCABULARY = TrimmedVocabulary((1, 10, 11, 20), num_head_tokens=3)
MAKER = LessonMaker(VOCABULARY, vocab_size=30)
# Token 25 has no row; token 20 has one but cannot be proposed.
LESSONS = (
    MAKER.lesson([20, 25], [10, 25, 1], [[10, 25], [25, 11], [1, 20]], [[0.6, 0.2], [0.7, 0.1], [0.9, 0.1]]),
    MAKER.lesson([20], [11, 1], [[10, 11], [1, 11]], [[0.5, 0.3], [0.6, 0.2]]),
)
BATCH = make_lesson_batch(LESSONS)


def test_inputs_are_rows_and_labels_are_head_rows() -> None:
    assert BATCH.ids_BT.tolist() == [[3, 4, 1, 4], [3, 2, 0, 0]]
    assert BATCH.labels_BT.tolist() == [[IGNORED, 1, IGNORED, 0], [2, 0, IGNORED, IGNORED]]


def test_the_targets_law_lines_up_with_the_labels() -> None:
    labels_N = BATCH.labels_BT[BATCH.labels_BT != IGNORED]

    assert labels_N.tolist() == [1, 0, 2, 0]
    assert BATCH.top_rows_NK.tolist() == [[1, ABSENT], [0, ABSENT], [1, 2], [0, 2]]
    torch.testing.assert_close(BATCH.top_probs_NK, torch.tensor([[0.6, 0.2], [0.9, 0.1], [0.5, 0.3], [0.6, 0.2]]))


def test_without_the_teacher_the_loss_is_the_answer_loss() -> None:
    torch.manual_seed(0)
    hidden_BTD, head_HD = torch.randn(2, 4, 8), torch.randn(3, 8)

    found = lesson_loss(hidden_BTD, head_HD, BATCH, 0.0, forward_kl)

    torch.testing.assert_close(found, answer_loss(hidden_BTD, head_HD, BATCH.labels_BT, IGNORED))


def test_the_teachers_part_is_the_divergence_from_its_law() -> None:
    torch.manual_seed(1)
    hidden_BTD, head_HD = torch.randn(2, 4, 8), torch.randn(3, 8)
    q_NH = (hidden_BTD[BATCH.labels_BT != IGNORED] @ head_HD.T).softmax(-1)

    found = lesson_loss(hidden_BTD, head_HD, BATCH, 1.0, forward_kl)

    # Likely tokens with a row, then everything else, as each place has it.
    p_of_place = ([0.6, 0.4], [0.9, 0.1], [0.5, 0.3, 0.2], [0.6, 0.2, 0.2])
    q_of_place = (
        [q_NH[0, 1], q_NH[0, 0] + q_NH[0, 2]],
        [q_NH[1, 0], q_NH[1, 1] + q_NH[1, 2]],
        [q_NH[2, 1], q_NH[2, 2], q_NH[2, 0]],
        [q_NH[3, 0], q_NH[3, 2], q_NH[3, 1]],
    )
    each = [
        sum(p * torch.log(p / q) for p, q in zip(torch.tensor(ps), qs, strict=True))
        for ps, qs in zip(p_of_place, q_of_place, strict=True)
    ]
    torch.testing.assert_close(found, torch.stack([torch.as_tensor(value) for value in each]).mean())


def test_prompt_positions_get_exactly_zero_gradient() -> None:
    torch.manual_seed(2)
    hidden_BTD, head_HD = torch.randn(2, 4, 8, requires_grad=True), torch.randn(3, 8)

    (gradient_BTD,) = torch.autograd.grad(lesson_loss(hidden_BTD, head_HD, BATCH, 0.7, forward_kl), hidden_BTD)

    labelled_BT = BATCH.labels_BT != IGNORED
    assert gradient_BTD[~labelled_BT].eq(0).all()
    assert gradient_BTD[labelled_BT].ne(0).any(dim=1).all()
