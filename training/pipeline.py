"""The stages of a recipe, in their order.

Each reads what the ones before it left and can be run again: it goes on where it was cut off and leaves alone what is
finished.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from training import provenance
from training.data import read_texts
from training.distil import JUDGING, Task, Writing, distil, plan
from training.drafter import export_drafter
from training.examples import Example
from training.files import write_whole
from training.finetune import Teaching, finetune
from training.on_policy import OnPolicy
from training.pretrain import pretrain
from training.replay import interval, replay
from training.run import Run, hashes
from training.starts import finetuning_start, weights_of_llama
from training.trim import coverage, list_hash, read_vocabulary, trim_to, write_vocabulary


def run_pretrain(run: Run) -> None:
    """Stage P: one drafter for all languages. Needs the target's tokenizer, not the target."""
    recipe, settings = run.recipe, run.recipe.pretrain
    if settings is None:
        return
    by_language = {code: language.data for code, language in recipe.languages.items()}
    sources = {"all": settings.data} if settings.data else by_language
    data = hashes(source for of_name in sources.values() for source in of_name)
    begun_with = {"data": data, "drafter": recipe.drafter.model_dump(), "start_from": _told(settings.start_from)}
    limit = recipe.drafter.max_positions
    examples = {
        name: _fitting(run.encoder.examples(read_texts(of_name, recipe.broken_lines)), limit, f"{name}: texts")
        for name, of_name in sources.items()
    }
    drafter = run.new_drafter(run.vocab_size)
    if settings.start_from is not None:
        drafter.load_state_dict(weights_of_llama(settings.start_from, recipe.target, drafter))
    # Only now: what was refused so far may be mended and run again in the same place.
    run.stamp(run.pretrain_dir, run.tokenizer_facts | begun_with, settings.model_dump(mode="json", exclude={"data"}))
    schedule = run.schedule(settings)
    pretrain(drafter, examples, schedule, settings.tokens_per_batch, recipe.seed, run.pretrain_dir, run.world)


def run_distil(run: Run, worker: int = 0, num_workers: int = 1) -> None:
    """The target writes answers to the languages' prompts; workers share the prompts of each language."""
    if not 0 <= worker < num_workers:
        raise ValueError(f"worker {worker} of {num_workers}: they are counted from 0 to {num_workers - 1}")
    recipe, settings = run.recipe, run.recipe.distil
    writing = Writing(settings.max_new_tokens, settings.top_k, settings.rows_per_batch, recipe.seed)
    room = run.max_positions - settings.max_new_tokens
    for language in run.languages:
        work, sources = run.answers_dir(language), recipe.languages[language].data
        for_judging = recipe.languages[language].held_out
        made_from = run.target_facts | {
            "data": hashes([*sources, *for_judging]),
            "writing": asdict(writing),
            "prompts": settings.prompts,
        }
        texts = _fitting(run.encoder.encode(read_texts(sources, recipe.broken_lines)), room, f"{language}: prompts")
        tasks = plan(texts, settings.prompts, settings.temperatures, recipe.seed)
        judged = run.encoder.encode(read_texts(for_judging, recipe.broken_lines))
        judging = [Task(f"{JUDGING}{text.id}", 0.0, text.prompt_ids) for text in judged if len(text) <= room]
        run.stamp(work, made_from, settings.model_dump(mode="json"), is_writer=worker == 0)
        minutes = settings.minutes / len(run.languages) if settings.minutes else None
        eos_ids = run.encoder.eos_ids
        count = distil(run.target, eos_ids, language, judging, writing, work, None, worker, num_workers)
        count += distil(run.target, eos_ids, language, tasks, writing, work, minutes, worker, num_workers)
        print(f"{language}: {count:,} answers written", flush=True)


def run_trim(run: Run) -> None:
    """Choose each language's tokens from what the target wrote; a list that is there stays."""
    recipe = run.recipe
    always = [*run.encoder.eos_ids, *run.encoder.byte_tokens()]
    for language in run.languages:
        path = run.vocabulary_file(language)
        records, held_out = run.records(language)
        if not path.exists():
            num_rows, min_count = recipe.rows_of(language), recipe.trim.min_answer_count
            vocabulary = trim_to(records, num_rows, always, min_count, run.vocab_size)
            write_vocabulary(path, vocabulary, coverage(vocabulary, held_out))
        vocabulary = read_vocabulary(path)
        told = f"{vocabulary.num_head_tokens:,} tokens to propose of {vocabulary.num_rows:,} rows"
        print(f"{language}: {told}, {coverage(vocabulary, held_out).answers:.2%} of unseen answers", flush=True)


def run_finetune(run: Run) -> None:
    """Stage F: each language's drafter learns from what the target wrote."""
    recipe, settings = run.recipe, run.recipe.finetune
    teaching = Teaching(settings.teacher_share, settings.divergence, settings.on_policy)
    for language in run.languages:
        work, vocabulary = run.finetune_dir(language), run.vocabulary(language)
        records = run.records(language)[0][: settings.records]
        drafter = run.new_drafter(vocabulary.num_rows)
        start = finetuning_start(run, vocabulary)
        begun_with = {
            "drafter": recipe.drafter.model_dump(),
            "vocabulary": list_hash(vocabulary),
            "answers": _answers_hash(run.answers_dir(language)),
            "records": settings.records,
            "start": "nothing" if start is None else _weights_hash(start),
        }
        run.stamp(work, run.target_facts | begun_with, settings.model_dump(mode="json"))
        if start is not None:
            drafter.load_state_dict(start)
        judge = _judge(run) if settings.on_policy > 0 else None
        schedule, tokens = run.schedule(settings), settings.tokens_per_batch
        finetune(
            drafter,
            vocabulary,
            run.vocab_size,
            records,
            teaching,
            judge,
            schedule,
            tokens,
            recipe.seed,
            work,
            run.world,
        )


def run_evaluate(run: Run) -> None:
    """Replay held-out greedy answers of every language through every drafter; writes `work/evaluation.json`."""
    settings = run.recipe.evaluate
    answered = {
        language: [
            Example(tuple(record.prompt_ids), tuple(record.answer_ids))
            for record in run.records(language)[1]
            if record.temperature == 0
        ][: settings.records]
        for language in run.languages
    }
    if empty := [language for language, answers in answered.items() if not answers]:
        raise ValueError(
            f"no held-out greedy answers of {', '.join(empty)}; distil more, with a share at temperature 0"
        )
    matrix: dict[str, dict[str, Any]] = {}
    for name in run.languages:
        drafter, vocabulary = run.finetuned(name)
        matrix[name] = {}
        for language, answers in answered.items():
            found = replay(drafter.eval(), vocabulary, answers, settings.max_drafted)
            cell = {"tokens_per_round": round(found.tokens_per_round, 4), "agreement": round(found.agreement, 4)}
            matrix[name][language] = cell | {
                "ci95": [round(end, 4) for end in interval(found)],
                "answers": len(answers),
            }
    report = run.target_facts | {"max_drafted": settings.max_drafted, "drafters": matrix}
    write_whole(run.recipe.work / "evaluation.json", report)
    print(matrix_table(matrix), flush=True)


def run_export(run: Run) -> None:
    """Write each drafter's directory, with what it was made from beside it."""
    for language in run.languages:
        drafter, vocabulary = run.finetuned(language)
        output = run.recipe.output / language
        export_drafter(drafter, vocabulary, language, run.recipe.target, output)
        write_whole(output / provenance.FILE, provenance.read(run.finetune_dir(language)))
        print(f"{language}: {output}", flush=True)


Tokens = TypeVar("Tokens", bound=Sized)

STAGES: Mapping[str, Callable[[Run], None]] = {
    "pretrain": run_pretrain,
    "distil": run_distil,
    "trim": run_trim,
    "finetune": run_finetune,
    "evaluate": run_evaluate,
    "export": run_export,
}


def matrix_table(matrix: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Tokens a round, drafters down, languages across."""
    lines = ["drafter  " + "".join(f"{language:>8}" for language in matrix)]
    for name, row in matrix.items():
        lines.append(f"{name:<9}" + "".join(f"{cell['tokens_per_round']:>8.2f}" for cell in row.values()))
    return "\n".join(lines)


def _fitting(texts: Sequence[Tokens], limit: int, what: str) -> list[Tokens]:
    """Those of at most `limit` tokens; how many are left out is printed."""
    kept = [text for text in texts if len(text) <= limit]
    if len(kept) < len(texts):
        print(f"{what}: {len(texts) - len(kept):,} of {len(texts):,} exceed {limit:,} tokens; left out", flush=True)
    if not kept:
        raise ValueError(f"{what}: nothing is left to learn from; give data with texts of at most {limit:,} tokens")
    return kept


def _judge(run: Run) -> OnPolicy:
    """The target, loaded."""
    settings = run.recipe.distil
    return OnPolicy(run.target, run.encoder.eos_ids, settings.max_new_tokens, settings.top_k)


def _answers_hash(directory: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.jsonl")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _weights_hash(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(state[name].cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _told(path: Path | None) -> str | None:
    return None if path is None else str(path)
