"""`polydraft train plan`: which drafter pays for a target on a machine, before anything is trained."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.planning.coverage import Coverage
    from training.planning.hardware import Sourced
    from training.planning.shapes import DecoderShape
    from training.planning.table import Assumption
    from training.planning.trained import Trained

ACCEPTANCE = 0.65
DRAFTER_FIGURES = {
    "weight_bytes": "of a weight",
    "bandwidth_gb_s": "at which weights are read",
    "step_fixed_us": "a pass of no layers",
    "layer_fixed_us": "a layer of no weights",
}
"""Fields of `Runner` that options replace, for target and drafter or for the drafter alone."""
TARGET_FIGURES = {
    "tflops": "at which rows are multiplied",
    "row_fixed_us": "each further row in a layer of no weights",
    "min_rows": "to which smaller steps are padded",
}
"""Those of steps with several rows."""


def add_plan(steps: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The step's options; the step imports what it needs when it runs."""
    step = steps.add_parser(
        "plan", help="which drafter shape, vocabulary and draft length pay for a target on a machine"
    )
    step.add_argument(
        "--target", type=Path, default=Path("models/target"), help="directory or config.json (default: %(default)s)"
    )
    step.add_argument(
        "--hardware",
        default="this",
        help="a GPU by name (h100, ...), a YAML file, or `this`: this machine's processor, measured (default: this)",
    )
    step.add_argument(
        "--placement", choices=("target", "tier"), default="target", help="where drafters run (default: %(default)s)"
    )
    step.add_argument("--acceptance", type=float, help=f"of a drafted token (default: {ACCEPTANCE}, an assumption)")
    step.add_argument(
        "--measured", type=Path, help="JSON {drafter: acceptance}, or output of evaluate: drafters to compare with"
    )
    step.add_argument("--drafters", type=Path, default=Path("models/drafters"), help="where drafters of --measured are")
    step.add_argument(
        "--answers", type=Path, help="output of distil, or JSON {token id: count}: what a trimmed vocabulary covers"
    )
    step.add_argument("--wanted", type=float, default=1.1, help="speedup worth a training (default: %(default)s)")
    step.add_argument("--json", action="store_true", help="one JSON object instead of text")
    for name, text in DRAFTER_FIGURES.items():
        option = name.replace("_", "-")
        step.add_argument(f"--{option}", type=float, metavar="N", help=f"{text}, target and drafter")
        step.add_argument(f"--drafter-{option}", type=float, metavar="N", help="the drafter's alone")
    for name, text in TARGET_FIGURES.items():
        step.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="N", help=text)
    step.add_argument(
        "--round-fixed-us", type=float, metavar="N", help="a round beside its passes: handing blocks over"
    )
    step.set_defaults(run=run_plan)


def run_plan(args: argparse.Namespace) -> None:
    """Print the plan."""
    from training.planning import table
    from training.planning.coverage import read_coverage
    from training.planning.plan import make_plan
    from training.planning.shapes import read_shape
    from training.planning.trained import read_trained

    if args.wanted < 1:
        raise ValueError(f"--wanted is {args.wanted:g}; a drafter pays from 1 on, as fast as without")
    target = read_shape(args.target)
    coverage = read_coverage(args.answers, target.rows) if args.answers else None
    trained = read_trained(args.measured, args.drafters) if args.measured else []
    acceptance = _acceptance(args, trained)
    sourced = _hardware(args, target)
    plan = make_plan(target, sourced.hardware, acceptance[0], coverage, trained, args.wanted)
    assumed = table.assumptions(sourced, _assumptions(target, args, acceptance, coverage))
    if args.json:
        print(json.dumps(table.as_json(plan, target, sourced, assumed), indent=2))
    else:
        print(table.as_text(plan, assumed))


def _acceptance(args: argparse.Namespace, trained: list[Trained]) -> tuple[float, str]:
    """Of the shapes of the grid, and where it is from."""
    if args.acceptance is not None:
        if not 0 <= args.acceptance <= 1:
            raise ValueError(f"--acceptance is {args.acceptance:g}; it is a share from 0 to 1")
        return args.acceptance, "given, for every shape"
    if trained:
        mean = sum(one.acceptance for one in trained) / len(trained)
        return mean, f"mean of {len(trained)} measured drafters, for every shape"
    return ACCEPTANCE, "assumed, for every shape: size says little of it (2402.01528); measure it"


def _hardware(args: argparse.Namespace, target: DecoderShape) -> Sourced:
    from training.planning.hardware import NAMED, TIER_ROUND_US, named_hardware, read_hardware

    if args.hardware == "this":
        from training.planning.measure import measure_this

        sourced = measure_this(target)
    elif args.hardware in NAMED:
        sourced = named_hardware(args.hardware)
    elif Path(args.hardware).is_file():
        sourced = read_hardware(Path(args.hardware))
    else:
        raise ValueError(f"--hardware {args.hardware!r} is neither this, {', '.join(NAMED)} nor a YAML file")
    if args.placement == "tier":
        sourced = sourced.with_figures({"round_fixed_us": TIER_ROUND_US}, "four messages, docs/performance.md")
    elif "round_fixed_us" not in sourced.sources:
        sourced = sourced.with_figures({"round_fixed_us": 0.0}, "no messages: drafters in the target's step")
    return sourced.with_figures(_given_figures(args), "given")


def _given_figures(args: argparse.Namespace) -> dict[str, float]:
    """By their names in `Sourced`; an option for the drafter alone wins over one for both."""
    given = {name: value for name, value in vars(args).items() if value is not None}
    figures = {f"target.{name}": given[name] for name in (*DRAFTER_FIGURES, *TARGET_FIGURES) if name in given}
    figures |= {f"drafter.{name}": given[name] for name in DRAFTER_FIGURES if name in given}
    figures |= {f"drafter.{name}": given[f"drafter_{name}"] for name in DRAFTER_FIGURES if f"drafter_{name}" in given}
    if "round_fixed_us" in given:
        figures["round_fixed_us"] = given["round_fixed_us"]
    return figures


def _assumptions(
    target: DecoderShape, args: argparse.Namespace, acceptance: tuple[float, str], coverage: Coverage | None
) -> list[Assumption]:
    from training.planning.coverage import ASSUMED_SHARE
    from training.planning.table import Assumption

    trimmed = (
        Assumption("coverage", f"{coverage.num_tokens:,} tokens", f"counted in {args.answers}; acceptance times it")
        if coverage
        else Assumption(
            "coverage", "1", f"assumed down to 1/{ASSUMED_SHARE} of the vocabulary; count it with --answers"
        )
    )
    return [
        Assumption("target", f"{target.num_parameters:,}", f"weights, by {args.target}"),
        Assumption("machine", args.hardware, "given"),
        Assumption("streams", "1", "assumed: with more of them rows cost more and drafts bring less"),
        Assumption("temperature", "0", "assumed: drawing noise is not counted"),
        Assumption("context", "short", "assumed: reading keys and values is not counted"),
        Assumption("drafts", "chains", "assumed, each token accepted independently of the others; trees bring more"),
        Assumption("acceptance", f"{acceptance[0]:.2f}", acceptance[1]),
        trimmed,
    ]
