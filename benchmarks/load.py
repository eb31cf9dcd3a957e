"""Many streams: tokens/s with drafting on and off, from 1 to 32 answers at a time.

    python -m benchmarks.load [--streams 1 2 4 8 16 32] [--phase-s 10] [--pairs 5] [--output runs/load]

Closed loops in alternating phases, as `polydraft bench --concurrency`; the ratio is the median over pairs of phases.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.prompts import corpus_prompts
from benchmarks.results import tell
from polydraft.client import AsyncClient
from polydraft.commands.bench_load import Plan, run_loaded
from polydraft.commands.bench_report import Report, report_loaded
from polydraft.commands.child_cluster import cluster
from polydraft.commands.common import NamedPrompt
from polydraft.options import GenerateOptions

MAX_TOKENS = 64


async def measure(args: argparse.Namespace, prompts: Sequence[NamedPrompt]) -> dict[int, Report]:
    """One report a number of streams."""

    def progress(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    reports = {}
    async with cluster(args.config, args.set) as address, AsyncClient(address) as client:
        for streams in args.streams:
            options = GenerateOptions(max_tokens=MAX_TOKENS, temperature=args.temperature)
            plan = Plan(prompts, options, 7, 1, streams, 2, args.phase_s, args.pairs)
            progress(f"{streams} streams")
            reports[streams] = report_loaded(await run_loaded(client, plan, progress), {"streams": streams})
    return reports


def markdown(reports: dict[int, Report]) -> str:
    """The table for people."""
    lines = [
        "| streams | tokens/s on | off | speedup | 95 % | slowest language | tokens a round | same text |",
        "|---:|---:|---:|---:|---|---|---:|---:|",
    ]
    for streams, report in reports.items():
        languages = report["languages"]
        on = sum(one["tokens_per_s_on"] for one in languages.values())
        off = sum(one["tokens_per_s_off"] for one in languages.values())
        slowest = min(languages, key=lambda name: languages[name]["speedup"])
        low, high = report["ci95"]
        lines.append(
            f"| {streams} | {on:.0f} | {off:.0f} | {report['mean_speedup']:.2f} | {low:.2f} to {high:.2f}"
            f" | {slowest} {languages[slowest]['speedup']:.2f} | {report['mean_tokens_per_round']:.2f}"
            f" | {report['identical'][0]}/{report['identical'][1]} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/local.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--phase-s", type=float, default=10.0)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("runs/load"))
    args = parser.parse_args()
    prompts = [NamedPrompt(one.id, one.prompt, one.language) for one in corpus_prompts(args.corpus, 12)]
    reports = asyncio.run(measure(args, prompts))
    figures = {"reports": reports}
    tell(args.output, markdown(reports), figures)


if __name__ == "__main__":
    main()
