"""What the recipe's stages bring: tokens a round with pretraining alone, with fine-tuning alone, with both, and with
both on less distilled text. Replayed on answers that no drafter was trained on; differences are paired by answer.

python -m benchmarks.recipe_study run --worker 0 --workers 2     # after the recipe's own stages, to finetune
python -m benchmarks.recipe_study report > docs/recipe-study.md

A run that was cut off goes on. The smaller sizes stand in benchmarks/recipe_study.yaml; seed, passes and the largest
size in the recipe, whose own drafters are the study's whole recipe.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
import yaml

from training.bootstrap import Floats, ci95, resampled
from training.examples import Example
from training.pipeline import run_finetune
from training.provenance import commit, versions
from training.recipe import Finetune, Recipe, load_recipe
from training.replay import Replay, interval, mean_difference, replay
from training.run import Run

STUDY = Path(__file__).with_suffix(".yaml")
BOTH, PRETRAINED, FINETUNED = "pretrain + finetune", "pretrain", "finetune"


@dataclass(frozen=True, slots=True)
class Study:
    """The file, read."""

    recipe: Recipe
    smaller_sizes: tuple[int, ...]
    """Answers of a language; the largest size is the recipe's own."""

    @property
    def sizes(self) -> dict[int, str]:
        """The variant that was fine-tuned on so many answers."""
        assert self.recipe.finetune.records is not None, "the recipe says no finetune.records"
        smaller = {size: f"{BOTH} on {size:,} answers" for size in self.smaller_sizes}
        return smaller | {self.recipe.finetune.records: BOTH}

    @property
    def variants(self) -> dict[str, Finetune]:
        """How each is fine-tuned; no steps leave what it starts from."""
        whole = self.recipe.finetune
        variants = {
            PRETRAINED: whole.model_copy(update={"passes": None, "steps": 0}),
            FINETUNED: whole.model_copy(update={"start_from": "nothing"}),
        }
        return variants | {name: whole.model_copy(update={"records": size}) for size, name in self.sizes.items()}


def read_study(path: Path) -> Study:
    fields = yaml.safe_load(path.read_text())
    return Study(load_recipe(path.parent / fields["recipe"]), tuple(fields["smaller_sizes"]))


def run_of(study: Study, variant: str, languages: Sequence[str] = ()) -> Run:
    """The recipe's own run, or one with a place of its own for fine-tuning after the same stages before it."""
    if variant == BOTH:
        return Run(study.recipe, languages)
    work = study.recipe.work / "study" / variant.replace(" ", "_").replace(",", "")
    share_stages(study.recipe, work, "pretrain", "distil", "trim")
    return Run(study.recipe.model_copy(update={"work": work, "finetune": study.variants[variant]}), languages)


def share_stages(recipe: Recipe, work: Path, *stages: str) -> None:
    """Let another `work` take these stages from the recipe's own."""
    work.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        if not (work / stage).is_symlink():
            (work / stage).symlink_to((recipe.work / stage).resolve())


def train_all(study: Study, worker: int, num_workers: int) -> None:
    torch.set_num_threads(1)
    variants = [variant for variant in study.variants if variant != BOTH]
    tasks = [(variant, language) for variant in variants for language in study.recipe.languages]
    for variant, language in tasks[worker::num_workers]:
        print(f"{variant}, {language}", flush=True)
        run_finetune(run_of(study, variant, [language]))


def replay_all(study: Study) -> tuple[dict[str, dict[str, Replay]], dict[str, dict[str, Replay]]]:
    """By variant and language, and the whole recipe's drafters on all languages."""
    languages = list(study.recipe.languages)
    answers = {}
    for language in languages:
        held_out = run_of(study, BOTH).records(language)[1]
        greedy = [record for record in held_out if record.temperature == 0]
        answers[language] = [Example(tuple(r.prompt_ids), tuple(r.answer_ids)) for r in greedy]
    most = study.recipe.evaluate.max_drafted
    found: dict[str, dict[str, Replay]] = {}
    matrix: dict[str, dict[str, Replay]] = {}
    for variant in study.variants:
        found[variant] = {}
        for language in languages:
            drafter, vocabulary = run_of(study, variant).finetuned(language)
            drafter.eval()
            found[variant][language] = replay(drafter, vocabulary, answers[language], most)
            if variant == BOTH:
                matrix[language] = {to: replay(drafter, vocabulary, answers[to], most) for to in languages}
    return found, matrix


def slope(by_size: Mapping[float, Sequence[Replay]]) -> tuple[float, tuple[float, float]]:
    """Tokens a round for each doubling of the text: least squares over sizes, mean over languages; 95 % interval."""
    x = np.log2(np.array(list(by_size)))
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()

    def of_language(tokens: Floats, *rounds_of_size: Floats) -> Floats:
        figures = np.stack([tokens.sum(-1) / rounds.sum(-1) for rounds in rounds_of_size])
        slopes: Floats = np.tensordot(weights, figures, axes=1)
        return slopes

    slopes, drawn = [], []
    for number, replays in enumerate(zip(*by_size.values(), strict=True)):
        tables = [np.array(replays[0].tokens, float), *(np.array(one.rounds, float) for one in replays)]
        slopes.append(float(of_language(*tables)))
        drawn.append(resampled(of_language, *tables, seed=number))
    return fmean(slopes), ci95(np.mean(drawn, axis=0))


def report(study: Study) -> str:
    found, matrix = replay_all(study)
    languages = list(study.recipe.languages)
    whole = [found[BOTH][language] for language in languages]
    most = study.recipe.evaluate.max_drafted
    counts = ", ".join(f"{code} {len(one.tokens)}" for code, one in zip(languages, whole, strict=True))
    lines = [
        "# What the recipe brings",
        "",
        f"Tokens a round for chains of {most}, greedy, replayed on answers that no drafter was trained on ({counts});",
        f"95 % intervals by drawing answers anew. `python -m benchmarks.recipe_study`, seed {study.recipe.seed},",
        f"{study.recipe.finetune.passes:g} passes, commit {commit()[:12]}, torch {versions()['torch']}.",
        "",
        "| variant | " + " | ".join(languages) + " | mean |",
        "|---|" + "---:|" * (len(languages) + 1),
    ]
    for variant, row in found.items():
        figures = [row[language].tokens_per_round for language in languages]
        cells = [f"{row[code].tokens_per_round:.3f} ({_range(interval(row[code]))})" for code in languages]
        lines.append(f"| {variant} | " + " | ".join(cells) + f" | {fmean(figures):.3f} |")
    lines += ["", "| difference, mean over languages | tokens a round | 95 % | by language |", "|---|---:|---:|---|"]
    for first, second in ((BOTH, FINETUNED), (FINETUNED, PRETRAINED)):
        pairs = [(found[first][code], found[second][code]) for code in languages]
        mean, ends = mean_difference([a for a, _ in pairs], [b for _, b in pairs])
        each = ", ".join(
            f"{code} {mean_difference([a], [b])[0]:+.3f}" for code, (a, b) in zip(languages, pairs, strict=True)
        )
        lines.append(f"| {first} minus {second} | {mean:+.3f} | {_range(ends)} | {each} |")
    by_size = {float(size): [found[name][code] for code in languages] for size, name in study.sizes.items()}
    mean, ends = slope(by_size)
    lines += ["", f"Each doubling of the distilled answers brings {mean:+.3f} tokens a round ({_range(ends)}).", ""]
    lines += ["| drafter | " + " | ".join(languages) + " |", "|---|" + "---:|" * len(languages)]
    for code, cells_of in matrix.items():
        told = [f"{cells_of[to].tokens_per_round:.2f}" for to in languages]
        told = [f"**{cell}**" if to == code else cell for to, cell in zip(languages, told, strict=True)]
        lines.append(f"| {code} | " + " | ".join(told) + " |")
    best = {to: max(languages, key=lambda code: matrix[code][to].tokens_per_round) for to in languages}
    others = {to: code for to, code in best.items() if to != code}
    lines += ["", f"Best drafter of each column: {'its own everywhere' if not others else json.dumps(others)}."]
    return "\n".join(lines) + "\n"


def _range(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("run", "report"))
    parser.add_argument("--study", type=Path, default=STUDY)
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    study = read_study(args.study)
    try:
        if args.step == "run":
            train_all(study, args.worker, args.workers)
        else:
            print(report(study), end="")
    except (OSError, ValueError) as error:  # a stage that comes before was not run
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
