"""Lessons line up with the answers, and the loss is what it says."""

from __future__ import annotations

import torch

from training.distil import Record
from training.drafter import TrimmedVocabulary
from training.examples import IGNORED
from training.finetune import count_tokens, lesson_loss, make_lesson, make_lesson_batch
from training.loop import answer_loss

VOCABULARY = TrimmedVocabulary((1, 10, 11, 20), num_head_tokens=3)
TABLE = VOCABULARY.label_table(30)
# Token 25 has no row; token 20 has one but cannot be proposed.
RECORDS = (
    Record(
        "de-0", "de", 0.0, [20, 25], [10, 25, 1], [[10, 25], [25, 11], [1, 20]], [[0.6, 0.2], [0.7, 0.1], [0.9, 0.1]]
    ),
    Record("de-1", "de", 0.7, [20], [11, 1], [[10, 11], [1, 11]], [[0.5, 0.3], [0.6, 0.2]]),
)
BATCH = make_lesson_batch([make_lesson(record, VOCABULARY, TABLE) for record in RECORDS])


def test_inputs_are_rows_and_labels_are_head_rows() -> None:
    assert BATCH.ids_BT.tolist() == [[3, 4, 1, 4], [3, 2, 0, 0]]
    assert BATCH.labels_BT.tolist() == [[IGNORED, 1, IGNORED, 0], [2, 0, IGNORED, IGNORED]]


def test_the_targets_law_lines_up_with_the_labels() -> None:
    labels_N = BATCH.labels_BT[BATCH.labels_BT != IGNORED]

    assert labels_N.tolist() == [1, 0, 2, 0]
    assert BATCH.top_rows_NK.tolist() == [[1, 0], [0, 0], [1, 2], [0, 2]]
    expected_NK = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.625, 0.375], [0.75, 0.25]])
    torch.testing.assert_close(BATCH.top_probs_NK, expected_NK)


def test_without_the_teacher_the_loss_is_the_answer_loss() -> None:
    torch.manual_seed(0)
    hidden_BTD, head_HD = torch.randn(2, 4, 8), torch.randn(3, 8)

    found = lesson_loss(hidden_BTD, head_HD, BATCH, teacher_share=0.0)

    torch.testing.assert_close(found, answer_loss(hidden_BTD, head_HD, BATCH.labels_BT, IGNORED))


def test_the_teachers_part_is_the_cross_entropy_with_its_law() -> None:
    torch.manual_seed(1)
    hidden_BTD, head_HD = torch.randn(2, 4, 8), torch.randn(3, 8)
    logp_NH = (hidden_BTD[BATCH.labels_BT != IGNORED] @ head_HD.T).log_softmax(-1)

    found = lesson_loss(hidden_BTD, head_HD, BATCH, teacher_share=1.0)

    law_NH = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.625, 0.375], [0.75, 0.0, 0.25]])
    torch.testing.assert_close(found, -(law_NH * logp_NH).sum(1).mean())


def test_tokens_are_counted_apart() -> None:
    answers, prompts = count_tokens(RECORDS)

    assert answers == {10: 1, 25: 1, 1: 2, 11: 1}
    assert prompts == {20: 2, 25: 1}
