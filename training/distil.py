"""The target writes answers to the languages' prompts: what the drafters learn from.

One JSON object a line, in `<work>/<language>.<worker>.jsonl`: id, language, temperature, prompt_ids, answer_ids,
top_ids, top_probs. A run that was cut off goes on with the ids that are missing.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from training.files import append_lines, drop_partial_line, read_lines
from training.generation import batches_of_like_length, write_answers
from training.prompts import EncodedText

HELD_OUT_SHARE = 0.04
"""Of the answers, on which no drafter is trained; `evaluate` takes its records from them."""
JUDGING = "held-out."
"""Begins the ids of answers to prompts that are there to judge by."""


@dataclass(frozen=True, slots=True)
class Task:
    """A prompt that the target shall answer."""

    id: str
    temperature: float
    prompt_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """A prompt with the answer the target wrote; `top_*` hold its likeliest tokens at each place of the answer."""

    id: str
    language: str
    temperature: float
    prompt_ids: list[int]
    answer_ids: list[int]
    top_ids: list[list[int]]
    top_probs: list[list[float]]

    @property
    def is_for_judging(self) -> bool:
        return self.id.startswith(JUDGING)

    @property
    def is_held_out(self) -> bool:
        """By the id alone, so that the same answers stay unseen in every run."""
        return hashlib.sha256(self.id.encode()).digest()[0] < 256 * HELD_OUT_SHARE


@dataclass(frozen=True, slots=True)
class Writing:
    """How answers are written."""

    max_new_tokens: int
    top_k: int
    rows_per_batch: int
    seed: int


def plan(
    texts: Sequence[EncodedText], num_prompts: int | None, temperatures: Mapping[float, float], seed: int
) -> list[Task]:
    """Which prompts are answered at which temperature. The same arguments give the same tasks."""
    rng = random.Random(seed)
    chosen = rng.sample(texts, min(num_prompts or len(texts), len(texts)))
    drawn = rng.choices([*temperatures], weights=[*temperatures.values()], k=len(chosen))
    return [Task(text.id, temperature, text.prompt_ids) for text, temperature in zip(chosen, drawn, strict=True)]


def read_records(work: Path, language: str) -> Iterator[Record]:
    """All whole records of a language."""
    for path in sorted(work.glob(f"{language}.*.jsonl")):
        for fields in read_lines(path):
            yield Record(**fields)


def distil(
    model: PreTrainedModel,
    eos_ids: Sequence[int],
    language: str,
    tasks: Sequence[Task],
    writing: Writing,
    work: Path,
    minutes: float | None = None,
    worker: int = 0,
    num_workers: int = 1,
) -> int:
    """Answer the tasks of this worker that have no answer yet, until the minutes are over; how many were written."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / f"{language}.{worker}.jsonl"
    drop_partial_line(path)
    done = {record.id for record in read_records(work, language)}
    batches = batches_of_like_length([task.prompt_ids for task in tasks], writing.rows_per_batch)
    random.Random(writing.seed).shuffle(batches)  # so that any beginning is a fair sample
    deadline = time.monotonic() + (minutes or float("inf")) * 60
    num_written = 0
    mine = [*enumerate(batches)][worker::num_workers]
    for number, batch in tqdm(mine, desc=f"distil {language}", unit="batch", disable=None):
        if done.issuperset(tasks[i].id for i in batch):
            continue
        if time.monotonic() >= deadline:
            break
        # A batch has its own seed and is always run whole: a resumed run writes what an unbroken one would have.
        generator = torch.Generator(model.device).manual_seed(hash_seed(writing.seed, language, number))
        answers = write_answers(
            model,
            [tasks[i].prompt_ids for i in batch],
            [tasks[i].temperature for i in batch],
            eos_ids,
            writing.max_new_tokens,
            generator,
            writing.top_k,
        )
        records = [
            Record(t.id, language, t.temperature, [*t.prompt_ids], a.token_ids, a.top_ids, a.top_probs)
            for t, a in zip((tasks[i] for i in batch), answers, strict=True)
            if t.id not in done
        ]
        append_lines(path, map(asdict, records))
        num_written += len(records)
    return num_written


def hash_seed(*parts: object) -> int:
    """A seed from anything that prints, 63 bits; the same in every process."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]) >> 1
