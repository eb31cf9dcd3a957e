"""Measure drafting on against off in alternating phases with the same seeds.

One stream (--concurrency 1): per language, speedup = mean tokens/s over questions with drafting / the same without.
More: a closed loop of C workers, prompts recycled; speedup = tokens/s on over off, median over pairs of phases.
FILE.jsonl holds {"id", "prompt"[, "language"]} a line; the language only groups the report, it is not sent.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from polydraft.commands.common import (
    UsageError,
    add_request_flags,
    positive_int,
    print_failure,
    print_json,
    read_prompts,
    request_options,
)
from polydraft.commands.connection import add_connection_flags, connect

if TYPE_CHECKING:
    from polydraft.commands.bench_load import Plan
    from polydraft.commands.bench_report import Report

NAME = "bench"
HELP = "measure drafting on against off"


def configure(parser: argparse.ArgumentParser) -> None:
    add_connection_flags(parser)
    parser.add_argument("--prompts", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--concurrency", type=positive_int, default=1, metavar="C", help="requests at a time")
    parser.add_argument("--repeats", type=positive_int, default=1, metavar="R", help="with C = 1: of each question")
    parser.add_argument("--warmup", type=int, default=3, metavar="N", help="uncounted answers a language")
    parser.add_argument("--phase-s", type=float, default=20.0, metavar="S", help="with C > 1: length of a phase")
    parser.add_argument("--pairs", type=positive_int, default=7, metavar="N", help="with C > 1: of phases")
    add_request_flags(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")


def run(args: argparse.Namespace) -> int:
    from polydraft.commands import bench_report
    from polydraft.commands.bench_load import Plan, QuestionFailed

    if args.phase_s <= 0:
        raise UsageError("--phase-s must be above 0")
    if args.speculation == "off":
        raise UsageError("--speculation off leaves nothing to compare; give auto or a drafter's name")
    plan = Plan(
        questions=read_prompts(args.prompts),
        options=request_options(args),
        seed=args.seed or 0,
        repeats=args.repeats,
        concurrency=args.concurrency,
        warmup=args.warmup,
        phase_s=args.phase_s,
        pairs=args.pairs,
    )
    try:
        report = asyncio.run(_measure(args, plan))
    except QuestionFailed as failed:
        print_failure(NAME, failed.question, failed.error, args.json)
        return 1
    if args.json:
        print_json({**report})
    else:
        print(bench_report.table(report))
    return 0


async def _measure(args: argparse.Namespace, plan: Plan) -> Report:
    from polydraft.commands import bench_load, bench_report

    def progress(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    config = _config(args, plan)
    async with connect(args) as client:
        if plan.concurrency == 1:
            return bench_report.report_alone(await bench_load.run_alone(client, plan, progress), config)
        return bench_report.report_loaded(await bench_load.run_loaded(client, plan, progress), config)


def _config(args: argparse.Namespace, plan: Plan) -> dict[str, object]:
    """How the figures came about."""
    config: dict[str, object] = {"prompts": args.prompts.name, "num_prompts": len(plan.questions)}
    config |= {name: value for name, value in plan.options.items() if value is not None}
    config |= {
        "temperature": args.temperature or 0.0,
        "seed": plan.seed,
        "concurrency": plan.concurrency,
        "warmup": plan.warmup,
    }
    config |= {"repeats": plan.repeats} if plan.concurrency == 1 else {"phase_s": plan.phase_s, "pairs": plan.pairs}
    return config | {"machine": platform.machine(), "cpus": os.cpu_count()}
