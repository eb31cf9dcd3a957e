"""Stage F: one language's drafter learns from the answers the target wrote, loss on the answer only.

The loss mixes the token the target chose with the target's law over its likeliest tokens (forward KL up to a
constant, DistillSpec 2310.08461 with the truncated rows that `training.distil` kept).

Shape letters: B examples, T tokens, N labelled tokens, H head rows, K likeliest tokens of the target.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaForCausalLM

from engine.identity import target_id
from training.distil import Record, bind_to_target, read_records
from training.drafter import TrimmedVocabulary, choose_vocabulary, drafter_config, export_drafter, trim
from training.examples import IGNORED, Batch, Example, eos_id, groups_by_length, make_batch
from training.loop import Schedule, train

SEED = 20_261_124
NUM_ROWS = {"de": 2_600, "fr": 2_600, "ru": 2_500, "ja": 3_050, "zh": 2_750}
"""Rows of the trimmed embedding. Japanese is written with the most tokens; five drafters fit into 12.3 MiB."""
TEACHER_SHARE = 0.7
"""How much of the loss is the target's law; the rest is the token it chose."""


def finetune_schedule(minutes: float, num_threads: int) -> Schedule:
    """Half the rates of pretraining, falling from early on; the clock as in pretraining."""
    clock = time.process_time if num_threads == 1 else time.perf_counter
    return Schedule(minutes, muon_lr=0.01, adamw_lr=1e-3, num_warmup_steps=20, decay_share=0.8, clock=clock)


@dataclass(frozen=True, slots=True)
class Lesson:
    """A record in rows of the trimmed vocabulary."""

    example: Example
    labels: tuple[int, ...]
    """Head rows of the answer, `IGNORED` for tokens that have none."""
    top_rows_TK: NDArray[np.int64]
    """Head rows of the target's likeliest tokens at each place of the answer; 0 where there is none."""
    top_probs_TK: NDArray[np.float32]
    """Their probabilities, normalised over those that have a row."""


@dataclass(frozen=True, slots=True)
class LessonBatch(Batch):
    """A batch with what the target thought at the labelled places, in row-major order."""

    top_rows_NK: Tensor
    top_probs_NK: Tensor


def count_tokens(records: Sequence[Record]) -> tuple[Counter[int], Counter[int]]:
    """How often each token occurs in answers and in prompts."""
    answers: Counter[int] = Counter()
    prompts: Counter[int] = Counter()
    for record in records:
        answers.update(record.answer_ids)
        prompts.update(record.prompt_ids)
    return answers, prompts


def make_lesson(record: Record, vocabulary: TrimmedVocabulary, head_row_of_id: NDArray[np.int64]) -> Lesson:
    """Map ids to rows. `head_row_of_id` is `vocabulary.label_table(...)`."""
    example = Example(tuple(vocabulary.rows(record.prompt_ids)), tuple(vocabulary.rows(record.answer_ids)))
    rows_TK = head_row_of_id[np.array(record.top_ids)]
    probs_TK = np.where(rows_TK == IGNORED, 0.0, np.array(record.top_probs)).astype(np.float32)
    probs_TK /= np.maximum(probs_TK.sum(1, keepdims=True), 1e-6)
    labels = tuple(head_row_of_id[np.array(record.answer_ids)].tolist())
    return Lesson(example, labels, np.maximum(rows_TK, 0), probs_TK)


def make_lesson_batch(lessons: Sequence[Lesson]) -> LessonBatch:
    """Prompt positions have no label, and neither have answer tokens that the drafter cannot propose."""
    batch = make_batch([Example(lesson.example.prompt_ids, lesson.labels) for lesson in lessons])
    ids_BT = make_batch([lesson.example for lesson in lessons]).ids_BT
    kept = [np.array(lesson.labels) != IGNORED for lesson in lessons]
    rows_NK = np.concatenate([lesson.top_rows_TK[keep] for lesson, keep in zip(lessons, kept, strict=True)])
    probs_NK = np.concatenate([lesson.top_probs_TK[keep] for lesson, keep in zip(lessons, kept, strict=True)])
    return LessonBatch(ids_BT, batch.labels_BT, torch.from_numpy(rows_NK), torch.from_numpy(probs_NK))


def lesson_loss(hidden_BTD: Tensor, head_HD: Tensor, batch: LessonBatch, teacher_share: float) -> Tensor:
    """Mean over the labelled places."""
    chosen_BT = batch.labels_BT != IGNORED
    logp_NH = (hidden_BTD[chosen_BT] @ head_HD.T).log_softmax(-1)
    hard = torch.nn.functional.nll_loss(logp_NH, batch.labels_BT[chosen_BT])
    soft = -(batch.top_probs_NK * logp_NH.gather(1, batch.top_rows_NK)).sum(1).mean()
    return (1 - teacher_share) * hard + teacher_share * soft


def finetune_drafter(
    language: str,
    tokenizer_dir: Path,
    answers: Path,
    pretrained: Path,
    work: Path,
    schedule: Schedule,
    tokens_per_batch: int,
) -> None:
    """Train (or go on training) one language's drafter and leave checkpoint and vocabulary in `work`."""
    torch.manual_seed(SEED)
    tokenizer = Tokenizer.from_file(str(tokenizer_dir / "tokenizer.json"))
    records = sorted(read_records(answers, language), key=lambda record: record.id)
    if not records:
        raise ValueError(f"{answers} holds no {language} answers; run `polydraft train distil` first")
    work.mkdir(parents=True, exist_ok=True)
    vocabulary = _vocabulary(records, NUM_ROWS[language], eos_id(tokenizer), work)
    head_row_of_id = vocabulary.label_table(tokenizer.get_vocab_size())
    lessons = [make_lesson(record, vocabulary, head_row_of_id) for record in records]

    model = LlamaForCausalLM(drafter_config(vocabulary.num_rows))
    state = torch.load(pretrained / "checkpoint.pt", weights_only=True)["model"]
    model.load_state_dict(trim(state, vocabulary))

    def batches_at(progress: float) -> Iterator[Batch]:
        rng = random.Random(f"{SEED}/{progress}")
        for group in groups_by_length([lesson.example for lesson in lessons], tokens_per_batch, rng):
            yield make_lesson_batch([lessons[i] for i in group])

    def loss_of(batch: Batch) -> Tensor:
        assert isinstance(batch, LessonBatch)
        hidden_BTD = model.model(batch.ids_BT, use_cache=False).last_hidden_state
        return lesson_loss(hidden_BTD, model.lm_head.weight[: vocabulary.num_head_tokens], batch, TEACHER_SHARE)

    train(model, loss_of, batches_at, schedule, work)


def _vocabulary(records: Sequence[Record], num_rows: int, eos: int, work: Path) -> TrimmedVocabulary:
    """Chosen once; a resumed run keeps it even if more answers were written since."""
    path = work / "vocabulary.json"
    if not path.exists():
        chosen = choose_vocabulary(*count_tokens(records), [eos], num_rows)
        path.write_text(json.dumps({"token_ids": chosen.token_ids, "num_head_tokens": chosen.num_head_tokens}))
    return read_vocabulary(work)


def read_vocabulary(work: Path) -> TrimmedVocabulary:
    """The vocabulary of a fine-tuning run."""
    saved = json.loads((work / "vocabulary.json").read_text())
    return TrimmedVocabulary(tuple(saved["token_ids"]), saved["num_head_tokens"])


def export_finetuned(language: str, answers: Path, work: Path, target_dir: Path, output: Path) -> None:
    """Write the drafter directory; raises ValueError if the answers came from another target."""
    bind_to_target(answers, target_id(target_dir))
    vocabulary = read_vocabulary(work)
    model = LlamaForCausalLM(drafter_config(vocabulary.num_rows))
    model.load_state_dict(torch.load(work / "checkpoint.pt", weights_only=True)["model"])
    export_drafter(model, vocabulary, language, target_dir, output)
