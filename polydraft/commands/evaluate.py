"""Judge drafters on question files, in this process: each language with each drafter, against plain decoding.

FILE.jsonl holds {"question_id", "category", "turns"[, "language"]} a line, as Multilingual-SpecBench and Spec-Bench
do. Protocol: Yi et al., EMNLP 2024 (arXiv 2406.16758). All drafters run in the target's step.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from polydraft.commands.common import UsageError, positive_int, print_json
from polydraft.commands.serve import add_overrides_flag

NAME = "evaluate"
HELP = "judge drafters on question files"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, default=Path("configs/single.yaml"), metavar="FILE")
    add_overrides_flag(parser)
    parser.add_argument("--questions", type=Path, nargs="+", required=True, metavar="FILE.jsonl")
    parser.add_argument("--drafters", nargs="+", metavar="NAME", help="of the configuration; default: all of method lm")
    parser.add_argument("--own-only", action="store_true", help="each language only with drafters configured for it")
    parser.add_argument("--language", metavar="xx", help="of questions that do not say; detected by default")
    parser.add_argument("--limit", type=positive_int, metavar="N", help="questions of each file and language")
    parser.add_argument("--temperatures", type=_temperature, nargs="+", default=[0.0, 1.0], metavar="T")
    parser.add_argument("--seeds", type=positive_int, default=3, metavar="N", help="at temperatures above 0")
    parser.add_argument("--max-tokens", type=positive_int, default=1024, metavar="N", help="longest answer")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of Markdown")
    parser.add_argument("--markdown", type=Path, metavar="FILE.md", help="write the Markdown here too")
    parser.add_argument("--heat-map", type=Path, metavar="FILE.png", help="draw tokens a round here")


def _temperature(text: str) -> float:
    try:
        temperature = float(text)
    except ValueError:
        temperature = math.nan
    if not (math.isfinite(temperature) and temperature >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no temperature; give a number of at least 0")
    return temperature


def run(args: argparse.Namespace) -> int:
    from deployments.evaluation import CannotEvaluate, Wanted, evaluate
    from training.evaluation.heat_map import save_heat_map
    from training.evaluation.markdown import markdown
    from training.provenance import commit, versions

    for path in (args.markdown, args.heat_map):  # an evaluation takes long: what would fail after it fails now
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"cannot write {path}: {path.parent} is no directory; make it first")
    wanted = Wanted(
        questions=tuple(args.questions),
        drafters=args.drafters and tuple(args.drafters),
        own_only=args.own_only,
        language=args.language,
        limit=args.limit,
        temperatures=tuple(args.temperatures),
        seeds=args.seeds,
        max_tokens=args.max_tokens,
    )
    try:
        report = evaluate(args.config, args.overrides, wanted, {"commit": commit(), "versions": versions()}, _progress)
    except CannotEvaluate as error:
        raise UsageError(str(error)) from None
    if args.markdown is not None:
        args.markdown.write_text(markdown(report), encoding="utf-8")
    if args.heat_map is not None:
        save_heat_map(report, args.heat_map)
    if args.json:
        print_json({**report})
    else:
        print(markdown(report), end="")
    same, asked = report["identical"]
    if same < asked and report["settings"]["numerics"] == "invariant":
        print(f"FAILED: {asked - same} of {asked} answers differ with drafting; they must not", file=sys.stderr)
        return 1
    return 0


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
