"""The model card `models/README.md` and the picture of the loss curves, from what the runs left behind."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.drafters.skip_file import FILE_NAME, read_skip_file
from engine.drafters.text.table import MANIFEST, read_table_manifest
from training.demo_family import corpus, data, quality, target
from training.demo_family.corpus import LANGUAGES
from training.distil import read_records
from training.drafter import load_drafter
from training.recipe import Recipe, Training, load_recipe

_DATA = """\
## Data, licences, attribution

The models were trained on sentence pairs from these sources. No sentence of them is part of this repository.

- **Tatoeba**, licence CC-BY 2.0 FR. The sentences come from [tatoeba.org](https://tatoeba.org) and were written by its
  contributors; the paired lists were published by www.manythings.org/anki, and a part was read from the Tatoeba test
  sets of `Helsinki-NLP/OPUS-MT-testsets` and `facebookresearch/LASER`. Licence: Creative Commons Attribution 2.0
  France, <https://creativecommons.org/licenses/by/2.0/fr/>. The text was changed: normalised, filtered, Chinese
  characters simplified one by one, some Russian and Chinese pairs joined through a third language.
- **SMARTool** example sentences (Russian), licence CC-BY 4.0: Janda, Laura A. et al., "Data used by SMARTool for
  English-speaking learners of Russian", <https://doi.org/10.18710/QNAPNE>.
- **3AM** image captions (Chinese), `MaxyLee/3AM`, licence MIT. Its authors drew the English captions from other public
  caption sets, which may carry terms of their own.
- The table that simplified the Chinese characters: `BYVoid/OpenCC`, Apache 2.0.
"""


def write_card(
    quality_report: Path, recipe_path: Path, target_runs: Sequence[Path], models: Path, picture: Path
) -> None:
    """Write `<models>/README.md` and the picture; raises FileNotFoundError naming a run that is missing.

    Each of `target_runs` began with the weights of the one before.
    """
    recipe = load_recipe(recipe_path)
    found = json.loads(quality_report.read_text())
    evaluation = json.loads((recipe.work / "evaluation.json").read_text())
    logs = {f"target, run {number}": read_log(run) for number, run in enumerate(target_runs, start=1)}
    logs["drafter, pretraining"] = read_log(recipe.work / "pretrain")
    logs |= {f"drafter, {code}": read_log(recipe.work / "finetune" / code) for code in LANGUAGES}
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw_curves(logs, picture)
    sections = (
        _head(found["target_id"]),
        quality_table(found),
        matrix_section(evaluation),
        *untrained_section(models),
        _how(recipe, logs, models),
        _commands(),
        f"## Loss\n\n![loss against minutes of computing]({os.path.relpath(picture, models)})\n",
        _DATA,
    )
    (models / "README.md").write_text("\n".join(sections), encoding="utf-8")


def read_log(run: Path) -> list[dict[str, float]]:
    """The records of a training log."""
    with (run / "loss.jsonl").open() as lines:
        return [json.loads(line) for line in lines]


def draw_curves(logs: dict[str, list[dict[str, float]]], picture: Path) -> None:
    """One panel for the target, one for pretraining, one for the five drafters."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {
        "target": [name for name in logs if name.startswith("target")],
        "drafter, pretraining": ["drafter, pretraining"],
        "drafters, on the target's answers": [f"drafter, {code}" for code in LANGUAGES],
    }
    figure, axes = pyplot.subplots(1, len(panels), figsize=(13, 3.8), layout="constrained")
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        start_s = 0.0
        for name in names:
            minutes = [(start_s + record["spent_s"]) / 60 for record in logs[name]]
            marker = "o" if len(minutes) == 1 else None  # of a run whose log is lost but for its end
            losses = smooth([record["loss"] for record in logs[name]])
            axis.plot(minutes, losses, label=name.split(", ")[1], marker=marker)
            if title == "target":  # its runs follow each other
                start_s += logs[name][-1]["spent_s"]
        axis.set(title=title, xlabel="minutes of computing", ylabel="loss on answers, nats a token")
        axis.grid(alpha=0.3)
        if len(names) > 1:
            axis.legend()
    figure.savefig(picture, dpi=110)
    pyplot.close(figure)


def smooth(values: Sequence[float], weight: float = 0.8) -> list[float]:
    """Exponential mean without the bias of the first value.

    smooth([1.0, 1.0]) -> [1.0, 1.0]
    """
    mean, total, smoothed = 0.0, 0.0, []
    for value in values:
        mean = weight * mean + (1 - weight) * value
        total = weight * total + (1 - weight)
        smoothed.append(mean / total)
    return smoothed


def _count_answers(recipe: Recipe, language: str) -> tuple[int, int]:
    """Records and answer tokens."""
    records = read_records(recipe.work / "distil" / language, language)
    lengths = [len(record.answer_ids) for record in records]
    return len(lengths), sum(lengths)


def _head(target_id: str) -> str:
    return f"""\
# The demo family

A small Llama that translates short everyday sentences from {_listed(LANGUAGES.values())} into English
(`target/`, id `{target_id}`), and a drafter for each language (`drafters/xx/`). They exist to show and to
test the cluster; they are no translators to rely on: sentences that are long, rare or not everyday come out wrong.

Prompt: `Translate German to English: <source>`, a line break, then the answer, which ends with `</s>`. A prompt may
hold several sentences.
"""


def quality_table(report: dict[str, Any]) -> str:
    """chrF and BLEU by language, single sentences and packs."""
    lines = [
        "## Quality",
        "",
        f"Greedy, everyday subset of the {report['split']} pairs (sacrebleu). A packed prompt holds 1 to 4 sentences.",
        "",
        "| source | prompts | chrF | BLEU | packed prompts | chrF | BLEU | answer tokens |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for code, single in report["single"].items():
        packed = report["packed"][code]
        lines.append(
            f"| {LANGUAGES[code]} | {single['num_prompts']} | {single['chrf']:.1f} | {single['bleu']:.1f} "
            f"| {packed['num_prompts']} | {packed['chrf']:.1f} | {packed['bleu']:.1f} "
            f"| {packed['mean_answer_tokens']:.1f} |"
        )
    means = [_mean([row["chrf"] for row in report[kind].values()]) for kind in ("single", "packed")]
    lines.append(f"| mean | | {means[0]:.1f} | | | {means[1]:.1f} | | |")
    return "\n".join(lines) + "\n"


def matrix_section(evaluation: Mapping[str, Any]) -> str:
    """Tokens a round, drafters down, input languages across."""
    matrix = evaluation["drafters"]
    languages = list(matrix)
    (answers,) = {cell["answers"] for row in matrix.values() for cell in row.values()}
    lines = [
        "## Drafters",
        "",
        f"Tokens a round (the target's own one included) for chains of {evaluation['max_drafted']}, greedy, on",
        f"{answers} unseen prompts a language; in brackets the share of tokens that are the drafter's first choice.",
        "Replayed from what the target wrote, not measured in the cluster. Rows: drafter. Columns: language of the",
        "prompt.",
        "",
        "| | " + " | ".join(languages) + " |",
        "|---|" + "---:|" * len(languages),
    ]
    for code, row in matrix.items():
        cells = [f"{row[to]['tokens_per_round']:.2f} ({row[to]['agreement']:.2f})" for to in languages]
        cells = [f"**{cell}**" if to == code else cell for to, cell in zip(languages, cells, strict=True)]
        lines.append(f"| {code} | " + " | ".join(cells) + " |")
    own = [row[code]["tokens_per_round"] for code, row in matrix.items()]
    lines += ["", f"Mean over the languages, each with its own drafter: {_mean(own):.2f}."]
    return "\n".join(lines) + "\n"


def _how(recipe: Recipe, logs: Mapping[str, list[dict[str, float]]], models: Path) -> str:
    shape = target.SHAPES["14m"]
    counts = {code: _count_answers(recipe, code) for code in LANGUAGES}
    written = "; ".join(f"{code} {records:,} answers, {tokens:,} tokens" for code, (records, tokens) in counts.items())
    shares = _listed(f"{share:.0%} at {at:g}" for at, share in recipe.distil.temperatures.items())
    runs = "\n".join(
        f"| {name} | {log[-1]['step']:,} | {log[-1]['tokens'] / 1e6:.2f}M | {log[-1]['spent_s'] / 3600:.2f} "
        f"| {log[-1]['loss']:.3f} |"
        for name, log in logs.items()
    )
    return f"""\
## How they were made

- **Everyday subset**: English side of up to {corpus.MAX_ENGLISH_WORDS} words, all among the
  {corpus.NUM_EVERYDAY_WORDS:,} most frequent; source of up to {corpus.MAX_SOURCE_CHARS} characters
  ({corpus.MAX_SOURCE_CHARS_UNSPACED} in Japanese and Chinese).
- **Target**: {shape.hidden_size} wide, {shape.layers} layers, 8,192 tokens of byte-level BPE, tied
  embedding; {1 - target.SINGLE_SHARE:.0%} of its examples pack 1 to {target.MAX_PACKED} sentences. Four runs, each
  from the weights of the one before. Runs 1 and 2 had neither weight decay nor Muon's fifth iteration; their matrices
  grew to twice the norms of a healthy run. Run 3 brought the norms back; run 4 is the recipe as it stands.
  (Steps 367 to 606 of run 3 also read Russian, Japanese and Chinese pairs of up to 12 words among the 4,000 most
  frequent.) Of run 1 only the end of the log is kept. Seed {target.SEED}.
- **Drafters** (recipe of Yi et al., EMNLP 2024, arXiv 2406.16758; `configs/train/demo.yaml`, seed {recipe.seed}):
  {_drafter_shapes(models)}
  Stage P: one model for all languages on the corpus' translations. Stage F: answers that the target wrote to prompts of
  the everyday subset and of the whole corpus (packed with seed {data.SEED}), by temperature {shares} ({written}).
  The loss is {recipe.finetune.teacher_share:.0%} {recipe.finetune.divergence.replace("_", " ")} from the target's law
  over its {recipe.distil.top_k} likeliest tokens and the tail, the rest the token that the target chose;
  {_budget(recipe.finetune)} over {_amount(recipe.finetune.records)} answers of each language. What each stage brings:
  [docs/recipe-study.md](../docs/recipe-study.md).
- The loss counts answer tokens only. Muon for the matrices of the layers, AdamW for the rest. fp32 on a CPU, stored
  as bf16.
- Quality packs with seed {quality.SEED}.

| run | steps | tokens | hours | last loss |
|---|---:|---:|---:|---:|
{runs}
"""


def _budget(settings: Training) -> str:
    given = {unit: getattr(settings, unit) for unit in ("minutes", "steps", "passes")}
    (told,) = (f"{amount:g} {unit}" for unit, amount in given.items() if amount is not None)
    return told


def _amount(limit: int | None) -> str:
    return "all" if limit is None else f"{limit:,}"


def _drafter_shapes(models: Path) -> str:
    shapes = []
    config = None
    for code in LANGUAGES:
        if (models / "drafters" / code / "drafter.json").exists():
            model, vocabulary = load_drafter(models / "drafters" / code)
            config = model.config
            size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
            rows = f"{vocabulary.num_head_tokens:,} of {vocabulary.num_rows:,} rows"
            shapes.append(f"{code} {rows}, {size:.2f}M parameters")
    if config is None:
        return "not exported."
    return (
        f"{config.hidden_size} wide, {config.num_hidden_layers} layer, tied trimmed embedding, "
        f"whose first rows are what the drafter may propose ({'; '.join(shapes)})."
    )


def _commands() -> str:
    return """\
## Commands

```
python -m training.demo_family tokenizer --corpus CORPUS
python -m training.demo_family target    --corpus CORPUS   # again with --work and --start-from for each further run
python -m training.demo_family export
python -m training.demo_family data      --corpus CORPUS
polydraft train all configs/train/demo.yaml
polydraft build ngram configs/train/demo.yaml --output models/ngrams --together
polydraft tune layer-skip models/target --prompts de=FILE.jsonl ...
python -m training.demo_family quality   --corpus CORPUS
python -m training.demo_family card
```

Target, pretraining and answers have budgets of minutes, so another machine makes other weights. On a CPU glibc gives
large tensors back to the system after each use; with `MALLOC_MMAP_THRESHOLD_=4000000000` and
`MALLOC_TRIM_THRESHOLD_=40000000000` in the environment it keeps them, and a step of the target took 1.8 s instead of
2.2 s.
"""


def untrained_section(models: Path) -> list[str]:
    """What drafts without a trained drafter, as far as it is there."""
    parts = []
    tables, skip_file = models / "ngrams", models / "target" / FILE_NAME
    if (tables / MANIFEST).exists():
        found = read_table_manifest(tables)
        size = sum(path.stat().st_size for path in tables.iterdir()) / 1e6
        parts.append(
            f"**N-grams** (`ngrams/`, for drafters of method `ngram_tree`): {found.num_ngrams:,} n-grams of up to four "
            f"tokens, each of which two of {found.num_texts:,} answers hold at least ({found.num_tokens:,} tokens), "
            f"{size:.1f} MB. The target wrote the answers to prompts like those that the drafters learnt from, in all "
            "languages; one table for all, as the answers are all English. It holds ids that the target wrote and no "
            "sentence of the corpus."
        )
    if skip_file.exists():
        sets = read_skip_file(skip_file)
        parts.append(
            f"**Sublayers to leave out** (`target/{FILE_NAME}`, for drafters of method `layer_skip`), one set for each "
            f"of {len(sets.languages)} languages and one for all, chosen by Bayesian optimisation on sentences that "
            "the target was not trained on."
        )
    items = [textwrap.fill(f"- {part}", 120, subsequent_indent="  ") for part in parts]
    return ["## Without a trained drafter\n\n" + "\n".join(items) + "\n"] if items else []


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _listed(items: Iterable[str]) -> str:
    *first, last = items
    return f"{', '.join(first)} and {last}"
