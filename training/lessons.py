"""Answers as a drafter reads them: rows of its vocabulary, with what the target thought at each place.

Shape letters: B examples, T tokens, N labelled places, H head rows, K likeliest tokens of the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.divergences import ABSENT, Divergence, buckets
from training.drafter import TrimmedVocabulary
from training.examples import IGNORED, Batch, Example, make_batch


@dataclass(frozen=True, slots=True)
class Lesson:
    """An answer in rows of the trimmed vocabulary."""

    example: Example
    labels: tuple[int, ...]
    """Head rows of the answer, `IGNORED` for tokens that have none."""
    top_rows_TK: NDArray[np.int32]
    """Head rows of the target's likeliest tokens at each place of the answer, `ABSENT` for tokens that have none."""
    top_probs_TK: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LessonBatch(Batch):
    """A batch with what the target thought at the labelled places, in row-major order."""

    top_rows_NK: Tensor
    top_probs_NK: Tensor
    is_on_policy: bool = False
    """The drafter wrote the answers: only the target's law teaches, not the tokens."""


class LessonMaker:
    """Maps the target's ids to rows."""

    def __init__(self, vocabulary: TrimmedVocabulary, vocab_size: int) -> None:
        self._vocabulary = vocabulary
        self._head_row_of_id = vocabulary.label_table(vocab_size)

    def lesson(
        self,
        prompt_ids: Sequence[int],
        answer_ids: Sequence[int],
        top_ids: Sequence[Sequence[int]],
        top_probs: Sequence[Sequence[float]],
    ) -> Lesson:
        """`top_ids` and `top_probs` are [len(answer_ids)][K]."""
        rows = self._vocabulary.rows
        labels = self._head_row_of_id[np.array(answer_ids)]
        top_rows_TK = self._head_row_of_id[np.array(top_ids)]
        return Lesson(
            Example(tuple(rows(prompt_ids)), tuple(rows(answer_ids))),
            tuple(labels.tolist()),
            np.where(top_rows_TK == IGNORED, ABSENT, top_rows_TK).astype(np.int32),
            np.array(top_probs, dtype=np.float32),
        )


def make_lesson_batch(lessons: Sequence[Lesson], is_on_policy: bool = False) -> LessonBatch:
    """Prompt positions have no label, and neither have answer tokens that the drafter cannot propose."""
    batch = make_batch([Example(lesson.example.prompt_ids, lesson.labels) for lesson in lessons])
    ids_BT = make_batch([lesson.example for lesson in lessons]).ids_BT
    kept = [np.array(lesson.labels) != IGNORED for lesson in lessons]
    rows = [lesson.top_rows_TK[keep] for lesson, keep in zip(lessons, kept, strict=True)]
    probs = [lesson.top_probs_TK[keep] for lesson, keep in zip(lessons, kept, strict=True)]
    rows_NK = torch.from_numpy(np.concatenate(rows).astype(np.int64))
    return LessonBatch(ids_BT, batch.labels_BT, rows_NK, torch.from_numpy(np.concatenate(probs)), is_on_policy)


def lesson_loss(
    hidden_BTD: Tensor, head_HD: Tensor, batch: LessonBatch, teacher_share: float, divergence: Divergence
) -> Tensor:
    """Mean over the labelled places: the divergence from the target's law, and the token it chose."""
    chosen_BT = batch.labels_BT != IGNORED
    device = hidden_BTD.device
    logits_NH = hidden_BTD[chosen_BT.to(device)] @ head_HD.T
    loss = logits_NH.new_zeros(())
    if teacher_share < 1:
        labels_N = batch.labels_BT[chosen_BT].to(device)
        loss = loss + (1 - teacher_share) * torch.nn.functional.cross_entropy(logits_NH, labels_N)
    if teacher_share > 0:
        laws = buckets(logits_NH, batch.top_rows_NK.to(device), batch.top_probs_NK.to(device))
        loss = loss + teacher_share * divergence(*laws).mean()
    return loss
