"""The target writes answers to training prompts: what the drafters learn from.

One JSON object a line, in `<work>/<language>.<worker>.jsonl`: id, language, temperature, prompt_ids, answer_ids,
top_ids, top_probs. `<work>/target.json` names the target; answers of two targets are never mixed. A run that was
cut off goes on with the ids that are missing.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from engine.identity import target_id
from training.corpus import LANGUAGES, Pair, everyday_pairs, pack, prompt_text, read_training_pairs
from training.examples import eos_id
from training.generation import groups_of_equal_length, write_answers

SEED = 20_261_123
GREEDY_SHARE = 0.7
TEMPERATURES = (0.3, 0.7, 1.0)
"""The rest is divided evenly over these."""
MAX_PACKED = 4
MAX_ANSWER_TOKENS = 96
ROWS_A_BATCH = 96


@dataclass(frozen=True, slots=True)
class Task:
    """A prompt that the target shall answer."""

    id: str
    language: str
    temperature: float
    prompt_ids: list[int]


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


def plan(tokenizer: Tokenizer, pairs: Sequence[Pair], num_prompts: int, source: str = "") -> list[Task]:
    """`num_prompts` tasks that pack 1 to 4 sentences each. The same call gives the same ids and prompts.

    `source` names where the pairs come from; it is part of the ids.
    """
    language = pairs[0].language
    rng = random.Random(f"{SEED}/{language}")
    packed: list[Pair] = []
    unused: list[Pair] = []
    while len(packed) < num_prompts:
        size = rng.randint(1, MAX_PACKED)
        if len(unused) < size:
            unused = rng.sample(pairs, len(pairs))
        packed.append(pack(unused[-size:]))
        del unused[-size:]
    encoded = tokenizer.encode_batch([prompt_text(language, pair.source) for pair in packed])
    temperatures = [0.0 if rng.random() < GREEDY_SHARE else rng.choice(TEMPERATURES) for _ in packed]
    return [
        Task(f"{language}-{source}{number:06d}", language, temperature, encoding.ids)
        for number, (temperature, encoding) in enumerate(zip(temperatures, encoded, strict=True))
    ]


def plan_batches(tasks: Sequence[Task]) -> list[list[Task]]:
    """Batches of equal prompt length in a fixed random order, so that any beginning is a fair sample."""
    groups = groups_of_equal_length([task.prompt_ids for task in tasks], ROWS_A_BATCH)
    random.Random(SEED).shuffle(groups)
    return [[tasks[i] for i in group] for group in groups]


def read_records(work: Path, language: str) -> Iterator[Record]:
    """All whole records of a language; a last line without its line break is a write that was cut off."""
    for path in sorted(work.glob(f"{language}.*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n"):
                    yield Record(**json.loads(line))


def bind_to_target(work: Path, target: str) -> None:
    """Note whose answers `work` holds; raises ValueError if another target's are there."""
    work.mkdir(parents=True, exist_ok=True)
    note = work / "target.json"
    if not note.exists():
        note.write_text(json.dumps({"target_id": target}) + "\n")
    found = json.loads(note.read_text())["target_id"]
    if found != target:
        raise ValueError(f"{work} holds answers of target {found}, not of {target}; use another directory")


def distil(
    model: LlamaForCausalLM, eos: int, tasks: Sequence[Task], work: Path, minutes: float, worker: int, num_workers: int
) -> int:
    """Answer the tasks of this worker that have no answer yet, until the minutes are over; how many were written."""
    language = tasks[0].language
    done = {record.id for record in read_records(work, language)}
    path = work / f"{language}.{worker}.jsonl"
    _drop_partial_line(path)
    deadline = time.monotonic() + minutes * 60
    num_written = 0
    for number, batch in enumerate(plan_batches(tasks)):
        if number % num_workers != worker or done.issuperset(task.id for task in batch):
            continue
        if time.monotonic() >= deadline:
            break
        # A batch has its own seed and is always run whole: a resumed run writes what an unbroken one would have.
        generator = torch.Generator().manual_seed(SEED * 100_000 + number)
        prompts = [task.prompt_ids for task in batch]
        temperatures = [task.temperature for task in batch]
        answers = write_answers(model, prompts, temperatures, eos, MAX_ANSWER_TOKENS, generator)
        records = [
            Record(t.id, t.language, t.temperature, t.prompt_ids, a.token_ids, a.top_ids, a.top_probs)
            for t, a in zip(batch, answers, strict=True)
            if t.id not in done
        ]
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(asdict(record)) + "\n" for record in records))
        num_written += len(records)
    return num_written


def _drop_partial_line(path: Path) -> None:
    if path.exists():
        data = path.read_bytes()
        if not data.endswith(b"\n"):
            path.write_bytes(data[: data.rfind(b"\n") + 1])


def distil_languages(
    corpus: Path,
    target_dir: Path,
    work: Path,
    languages: Sequence[str],
    num_prompts: int,
    minutes: float,
    worker: int,
    num_workers: int,
) -> None:
    """The whole step: `minutes` is for all the languages together, divided evenly."""
    assert set(languages) <= set(LANGUAGES), languages
    bind_to_target(work, target_id(target_dir))
    tokenizer = Tokenizer.from_file(str(target_dir / "tokenizer.json"))
    model = LlamaForCausalLM.from_pretrained(target_dir, dtype=torch.float32).eval()
    everyday, whole = everyday_pairs(corpus, "train"), read_training_pairs(corpus)
    for language in languages:
        # A drafter has to foresee what the target makes of sentences that it was not trained on, too.
        tasks = plan(tokenizer, everyday[language], num_prompts // 2)
        tasks += plan(tokenizer, whole[language], num_prompts - num_prompts // 2, source="whole-")
        share = minutes / len(languages)
        count = distil(model, eos_id(tokenizer), tasks, work, share, worker, num_workers)
        print(f"{language}: {count} answers written", flush=True)
