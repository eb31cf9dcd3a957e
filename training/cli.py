"""The commands behind `polydraft train`: the stages of a recipe, each by its name or all in their order."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from training.planning.cli import add_plan

STAGES = {
    "pretrain": "stage P: one drafter for all languages",
    "distil": "the target writes answers to the languages' prompts",
    "trim": "choose the tokens that each language's drafter knows",
    "finetune": "stage F: each language's drafter learns from the target's answers",
    "evaluate": "tokens a round of each drafter on each language's held-out answers",
    "export": "write each drafter as a directory that a configuration can name",
    "all": "every stage, in this order",
}


Launch = Callable[[Path, Sequence[str], Sequence[str], int, str], None]
"""Runs stages of a recipe for some languages in several processes, through the Ray at an address or one of its own."""


def main(argv: Sequence[str], launch: Launch) -> int:
    """Run one command; 0 if it worked, 1 if its input was missing or wrong. argparse exits with 2 on usage errors."""
    args = _parser().parse_args(argv)
    try:
        if args.step == "plan":
            args.run(args)
        else:
            _run_stages(args, launch)
    except (OSError, ValueError) as error:
        print(f"polydraft train {args.step}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="polydraft train",
        description="Plan and train drafters for a target, from one YAML recipe. A stage that was cut off goes on.",
    )
    steps = parser.add_subparsers(dest="step", required=True, metavar="STAGE")
    add_plan(steps)
    for name, text in STAGES.items():
        step = steps.add_parser(name, help=text, description=text)
        step.add_argument("recipe", type=Path, help="the YAML file, such as configs/train/demo.yaml")
        step.add_argument("--language", action="append", default=[], metavar="CODE", help="only this one; repeatable")
        if name == "distil":
            step.add_argument("--worker", type=int, default=0, help="this process' number, from 0")
            step.add_argument("--workers", type=int, default=1, help="how many processes share the prompts")
        step.add_argument("--processes", type=int, default=1, metavar="N", help="train in N processes, by Ray Train")
        step.add_argument("--ray-address", default="", metavar="A", help="a running Ray (default: one of its own)")
    return parser


def _run_stages(args: argparse.Namespace, launch: Launch) -> None:
    import torch  # here and not above, so that --help stays quick
    from transformers.utils.logging import disable_progress_bar

    from training.pipeline import STAGES as RUN
    from training.pipeline import run_distil
    from training.recipe import load_recipe
    from training.run import Run

    disable_progress_bar()  # of loading weights; the stages have bars of their own
    stages = [*RUN] if args.step == "all" else [args.step]
    if args.processes > 1:
        launch(args.recipe, stages, args.language, args.processes, args.ray_address)
        return
    run = Run(load_recipe(args.recipe), args.language)
    torch.set_num_threads(run.recipe.threads)
    if args.step == "distil":
        run_distil(run, args.worker, args.workers)
        return
    for stage in stages:
        RUN[stage](run)
