"""Watch five languages being served: each prompt is asked with drafting on and off, and both texts must be the same.

Starts a cluster of its own (or uses --address), prints translations as they are written, then a table; saves a plot.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from polydraft.commands.common import UsageError
from polydraft.commands.connection import address

if TYPE_CHECKING:
    from polydraft.client import AsyncClient
    from polydraft.commands.demo_report import Row

NAME = "demo"
HELP = "five languages, with drafting and without"

REPEATS = 2
MAX_TOKENS = 80


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, default=Path("configs/single.yaml"), metavar="FILE")
    parser.add_argument("--address", type=address, metavar="HOST:PORT", help="use a cluster that runs already")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), metavar="DIR", help="where the plot goes")


def run(args: argparse.Namespace) -> int:
    if args.address is None and not args.config.is_file():
        raise UsageError(f"cannot read {args.config}: no such file; give --config FILE or --address HOST:PORT")
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {args.output}: {error.strerror}") from None
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        rows = asyncio.run(_run(args))
    finally:
        signal.signal(signal.SIGTERM, previous)
    return _report(rows, args.output / "speedup.png")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt  # as Ctrl-C: the cluster is stopped on the way out


async def _run(args: argparse.Namespace) -> list[Row]:
    from polydraft.commands.child_cluster import cluster

    if args.address is not None:
        return await _ask_all(args.address)
    print(f"starting a cluster from {args.config} ...", flush=True)
    async with cluster(str(args.config)) as started:
        return await _ask_all(started)


async def _ask_all(where: str) -> list[Row]:
    from polydraft.client import AsyncClient
    from polydraft.commands.bench_load import QuestionFailed
    from polydraft.commands.demo_sentences import LANGUAGE_NAMES

    async with AsyncClient(where) as client:
        try:
            return [await _ask_language(client, language) for language in LANGUAGE_NAMES]
        except QuestionFailed as failed:
            raise failed.error from None


async def _ask_language(client: AsyncClient, language: str) -> Row:
    from polydraft.commands.bench_load import ask
    from polydraft.commands.demo_report import make_row
    from polydraft.commands.demo_sentences import LANGUAGE_NAMES, demo_prompts, source_of
    from polydraft.options import GenerateOptions

    prompts = demo_prompts(language)
    options = GenerateOptions(max_tokens=MAX_TOKENS)
    print(f"\n{LANGUAGE_NAMES[language]}", flush=True)
    for drafted in (True, False):  # warms up, counts for nothing
        await ask(client, prompts[0], options, seed=0, drafted=drafted)
    records = []
    for prompt in prompts:
        print(f"  {source_of(prompt)}\n  -> ", end="", flush=True)
        records.append(await ask(client, prompt, options, seed=0, drafted=True, show=_show))
        print(flush=True)
        records.append(await ask(client, prompt, options, seed=0, drafted=False))
        for seed in range(1, REPEATS):
            for drafted in (True, False):
                records.append(await ask(client, prompt, options, seed=seed, drafted=drafted))
    return make_row(language, records)


def _show(text: str) -> None:
    print(text, end="", flush=True)


def _report(rows: list[Row], plot: Path) -> int:
    from polydraft.commands.demo_report import save_plot, table

    print(f"\n{table(rows)}\n", flush=True)
    save_plot(rows, plot)
    print(f"plot: {plot}")
    wrong = [row.language for row in rows if not row.identical]
    if wrong:
        names = ", ".join(wrong)
        print(
            f"FAILED: with drafting on the text of {names} differs from the text without; it must not", file=sys.stderr
        )
        return 1
    print("Every answer was the same with drafting on and off.")
    return 0
