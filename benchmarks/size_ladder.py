"""Speedup against the target's size: the demo family's recipe on targets of other shapes, and what the plan foretold.

python -m benchmarks.size_ladder target 5m --corpus ../shared/corpus     # none for the recipe's own target
python -m benchmarks.size_ladder answers 5m --worker 0 --workers 2       # after the recipe's stage pretrain
python -m benchmarks.size_ladder drafters 5m --worker 0 --workers 2
python -m benchmarks.size_ladder measure 5m --corpus ../shared/corpus --questions runs/everyday.jsonl
python -m benchmarks.size_ladder report > docs/size-ladder.md            # of the rungs that were measured

A step that was cut off goes on. Sizes and budgets stand in benchmarks/size_ladder.yaml, the seed in the recipe.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import yaml

from benchmarks.recipe_study import share_stages
from benchmarks.results import headline
from deployments.evaluation import Wanted, evaluate
from training.demo_family.quality import report_quality
from training.demo_family.target import SHAPES, THREADS, export_target, target_schedule, train_target
from training.files import write_whole
from training.pipeline import run_distil, run_evaluate, run_export, run_finetune, run_trim
from training.planning.measure import measure_this
from training.planning.model import forecast, round_costs
from training.planning.shapes import read_shape
from training.planning.trained import read_trained
from training.provenance import commit, versions
from training.recipe import Recipe, load_recipe
from training.run import Run

LADDER = Path(__file__).with_suffix(".yaml")
CONFIG = Path("configs/single.yaml")
MAX_TOKENS = 96
NUM_SEEDS = 3


@dataclass(frozen=True, slots=True)
class Rung:
    """One size of target."""

    name: str
    work: Path
    recipe: Recipe
    """Of its drafters."""
    base: Recipe
    """Its pretrained drafter and its target's tokenizer are those of all rungs."""
    target_minutes: float | None
    """None: the target is there."""

    @property
    def target_work(self) -> Path:
        return self.work / "target-run"

    def run(self, languages: Sequence[str] = ()) -> Run:
        share_stages(self.base, self.work, "pretrain")
        return Run(self.recipe, languages)


def rung_names(path: Path) -> list[str]:
    return [*yaml.safe_load(path.read_text())["target_minutes"]]


def read_rung(path: Path, name: str) -> Rung:
    """The rung `name` of a ladder's file."""
    fields = yaml.safe_load(path.read_text())
    base = load_recipe(path.parent / fields["recipe"])
    minutes = fields["target_minutes"][name]
    work = (path.parent / fields["work"]).resolve() / name
    distil = base.distil.model_copy(update={"minutes": None, "prompts": fields["prompts"]})
    recipe = base.model_copy(
        update={
            "target": base.target if minutes is None else work / "target",
            "work": work,
            "output": work / "drafters",
            "distil": distil,
            "finetune": base.finetune.model_copy(update={"records": fields["records"]}),
        }
    )
    return Rung(name, work, recipe, base, minutes)


def make_target(rung: Rung, corpus: Path) -> None:
    """Train the rung's target by the demo family's schedule and export it."""
    if rung.target_minutes is None:
        raise ValueError(f"{rung.name} is the recipe's own target, {rung.recipe.target}; there is nothing to train")
    torch.set_num_threads(THREADS)
    tokenizer_dir, shape = rung.base.target, SHAPES[rung.name]
    train_target(corpus, tokenizer_dir, shape, rung.target_work, target_schedule(rung.target_minutes))
    export_target(rung.target_work, tokenizer_dir, shape, rung.recipe.target)


def make_drafters(rung: Rung, worker: int, num_workers: int) -> None:
    """Of this worker's languages; `measure` compares all of them."""
    torch.set_num_threads(1)
    run = rung.run([*rung.recipe.languages][worker::num_workers])
    run_trim(run)
    run_finetune(run)
    run_export(run)


def measure(rung: Rung, corpus: Path, questions: Path) -> None:
    """Quality of the target, tokens a round and speedup of its drafters, and the plan's forecast of the speedup."""
    torch.set_num_threads(1)
    target, drafters = rung.recipe.target, rung.recipe.output
    run_evaluate(rung.run())
    report_quality(corpus, target, "test", None, rung.work / "quality.json")
    foretold = foretell(rung)
    overrides = [
        f"target.model={target}",
        *(f"drafters.{code}.model={drafters / code}" for code in drafter_names(rung)),
    ]
    wanted = Wanted((questions,), drafter_names(rung), True, None, None, (0.0, 1.0), NUM_SEEDS, MAX_TOKENS)
    found = evaluate(CONFIG, overrides, wanted, {"commit": commit(), "versions": versions()}, _progress)
    write_whole(rung.work / "evaluate.json", found)
    facts = {
        "parameters": read_shape(target).num_parameters,
        "foretold": foretold,
        "sha256": {
            f"{directory.name}/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest()
            for directory in (target, *sorted(drafters.iterdir()))
            for file in sorted(directory.glob("*.safetensors"))
        },
        "measured_on": headline(),
    }
    write_whole(rung.work / "measured.json", facts)


def drafter_names(rung: Rung) -> tuple[str, ...]:
    return tuple(rung.recipe.languages)


def foretell(rung: Rung) -> float:
    """The plan's speedup of the rung's drafters, greedy: from the machine's figures and replayed acceptance; mean."""
    target = read_shape(rung.recipe.target)
    hardware = measure_this(target).hardware
    trained = read_trained(rung.recipe.work / "evaluation.json", rung.recipe.output)
    return fmean(forecast(round_costs(target, one.shape, hardware), one.acceptance).speedup for one in trained)


def report(rungs: Sequence[Rung]) -> str:
    """A table of the rungs that were measured, and the hashes of their weights."""
    rows, hashes = [], []
    for rung in rungs:
        if not (rung.work / "measured.json").exists():
            continue
        facts, quality, found = (
            json.loads((rung.work / f"{name}.json").read_text()) for name in ("measured", "quality", "evaluate")
        )
        plain = [one["tokens_per_s"]["mean"] for one in found["plain"] if one["temperature"] == 0]
        means = {mean["temperature"]: mean for mean in found["own_means"]}
        same, asked = found["identical"]
        columns = (
            rung.name,
            f"{facts['parameters'] / 1e6:.1f}M",
            f"{fmean(row['chrf'] for row in quality['single'].values()):.1f}",
            f"{fmean(plain):.0f}",
            f"{means[0.0]['tokens_per_round']:.2f}, {means[1.0]['tokens_per_round']:.2f}",
            f"{means[0.0]['speedup']:.2f}, {means[1.0]['speedup']:.2f}",
            ", ".join(f"{cell['language']} {cell['speedup']['mean']:.2f}" for cell in _greedy(found["cells"])),
            f"{facts['foretold']:.2f}",
            f"{same}/{asked}",
        )
        rows.append(f"| {' | '.join(columns)} |")
        hashes.append(f"{rung.name}, measured on {facts['measured_on']}:\n")
        hashes.append("\n".join(f"    {digest}  {file}" for file, digest in facts["sha256"].items()) + "\n")
    return "\n".join([_HEAD, *rows, "", "## Weights", "", "SHA-256. The weights themselves are not kept.", "", *hashes])


def _greedy(cells: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [cell for cell in cells if cell["temperature"] == 0]


_HEAD = f"""\
# Speedup against the target's size

Targets of several sizes, each with five drafters of one layer by the same recipe (`benchmarks/size_ladder.yaml`).
`python -m benchmarks.size_ladder`: questions of everyday test sentences, each drafter on its own language, by the
protocol of `polydraft evaluate`, T = 0 and T = 1 with {NUM_SEEDS} seeds, means over five languages: whole answers of
about 19 tokens, prefill of both sides included, draft lengths measured anew for each language and temperature.
"Foretold" is what `polydraft train plan` expects of decoding alone, greedy, of chains at the acceptance that replay
finds. The sizes are not equally well trained (`target_minutes`; 14m is the demo family's own target, trained for
hours), which chrF shows, and what a weak target writes is easier to foresee.

| target | parameters | chrF | tokens/s plain | tokens a round | speedup | greedy, by language | foretold | same text |
|---|---:|---:|---:|---:|---:|---|---:|---:|"""


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("target", "answers", "drafters", "measure", "report"))
    parser.add_argument("rung", nargs="?", help="not for report")
    parser.add_argument("--ladder", type=Path, default=LADDER)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--questions", type=Path, default=Path("runs/everyday.jsonl"))
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    names = rung_names(args.ladder)
    if args.step == "report":
        print(report([read_rung(args.ladder, name) for name in names]))
        return
    if args.rung not in names:
        parser.error(f"found rung {args.rung}; give one of {', '.join(names)}")
    try:
        _run(read_rung(args.ladder, args.rung), args)
    except (OSError, ValueError) as error:  # a step that comes before was not run
        parser.exit(1, f"{error}\n")


def _run(rung: Rung, args: argparse.Namespace) -> None:
    match args.step:
        case "target":
            make_target(rung, args.corpus)
        case "answers":
            torch.set_num_threads(1)
            run_distil(rung.run(), args.worker, args.workers)
        case "drafters":
            make_drafters(rung, args.worker, args.workers)
        case "measure":
            measure(rung, args.corpus, args.questions)


if __name__ == "__main__":
    main()
