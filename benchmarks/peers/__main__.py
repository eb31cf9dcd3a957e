"""Tokens a second of our cluster and of its peers, on the same weights, prompts and machine.

    python -m benchmarks.peers install [--work runs/peers]
    python -m benchmarks.peers run [--work runs/peers] [--systems polydraft,llama.cpp] [--json runs/peers.json]

Greedy, in a closed loop, the systems in turns over the repetitions; each has a process of its own, is warmed up, and
runs with the number of threads that a short sweep finds fastest. The table is printed anew after each repetition, and
written beside the JSON. What is not installed, or fails, is left out: the exit status is 1 then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import AutoTokenizer

from benchmarks.peers.comparison import Comparison
from benchmarks.peers.contract import Bench, System
from benchmarks.peers.install import INSTALL_HINT, install
from benchmarks.peers.measure import Plan
from benchmarks.peers.report import Retokenise, Row, conditions, make_row, table
from benchmarks.peers.systems import SYSTEMS
from benchmarks.prompts import CorpusPrompt, corpus_prompts
from benchmarks.verify import reference_texts
from cluster.config_file import load
from polydraft.commands.common import NamedPrompt, positive_int
from training.demo_family.corpus import LANGUAGES


def main() -> int:
    args = _parse()
    if args.command == "install":
        install(args.work, args.jobs)
        return 0
    if not args.corpus.is_dir():
        print(f"peers: the corpus is not at {args.corpus}; give --corpus", file=sys.stderr)
        return 2
    prompts = [prompt for prompt in corpus_prompts(args.corpus, args.count) if prompt.language in args.languages]
    return asyncio.run(_compare(args, prompts))


async def _compare(args: argparse.Namespace, prompts: Sequence[CorpusPrompt]) -> int:
    bench, retokenise = _bench(args, prompts)
    systems = _installed(args.systems, bench)
    plan = Plan([NamedPrompt(p.id, p.prompt, p.language) for p in prompts], args.phase_s, args.warmup)
    reference = reference_texts(bench.target, prompts, torch.bfloat16, args.max_tokens)
    comparison = Comparison(bench, plan, systems, _progress)
    await comparison.choose_threads(args.threads)
    for repetition in range(1, args.repetitions + 1):
        await comparison.repeat()
        _progress(f"repetition {repetition} of {args.repetitions} done")
        rows = [
            make_row(c.system.name, c.system.version(bench), c.repetitions, reference, retokenise)
            for c in comparison.contenders
        ]
        _report(args, rows, repetition)
    is_complete = len(systems) == len(args.systems) and not any(c.failed for c in comparison.contenders)
    return 0 if is_complete else 1


def _bench(args: argparse.Namespace, prompts: Sequence[CorpusPrompt]) -> tuple[Bench, Retokenise]:
    cluster = load(args.config, args.set)
    tokenizer = AutoTokenizer.from_pretrained(cluster.target.model, local_files_only=True)

    def tokenise(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
        return ids

    drafters = {
        language: drafter.model
        for drafter in cluster.drafters.values()
        for language in drafter.languages
        if drafter.model is not None
    }
    bench = Bench(
        config=args.config,
        overrides=args.set,
        target=cluster.target.model,
        drafters={language: drafters[language] for language in args.languages},
        work=args.work,
        prompt_ids={prompt.id: tokenise(prompt.prompt) for prompt in prompts},
        eos_id=tokenizer.eos_token_id,
        max_tokens=args.max_tokens,
        num_draft_tokens=args.draft_tokens,
    )
    return bench, lambda ids: tokenise(str(tokenizer.decode(list(ids))))


def _installed(names: Sequence[str], bench: Bench) -> list[System]:
    systems = []
    for name in names:
        if missing := SYSTEMS[name].missing(bench):
            _progress(f"{name} left out: there is no {missing}; {INSTALL_HINT.format(work=bench.work)}")
        else:
            systems.append(SYSTEMS[name])
    return systems


def _report(args: argparse.Namespace, rows: Sequence[Row], repetitions: int) -> None:
    """Print the table; keep it and the figures, so that a run that is cut short is not lost."""
    about = conditions() | {
        name: getattr(args, name)
        for name in ("languages", "count", "phase_s", "warmup", "max_tokens", "draft_tokens", "set")
    }
    about |= {"config": args.config.name, "repetitions": repetitions}
    text = table(rows, about)
    print(text, flush=True)
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        document = {"systems": [asdict(row) for row in rows], "conditions": about}
        args.json.write_text(json.dumps(document, indent=1) + "\n")
        args.json.with_suffix(".md").write_text(text + "\n")


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    installing = commands.add_parser("install", help="vLLM and llama.cpp, below the work folder")
    installing.add_argument("--jobs", type=positive_int, default=os.cpu_count(), help="of the compiler")
    running = commands.add_parser("run", help="measure")
    for command in (installing, running):
        command.add_argument("--work", type=Path, default=Path("runs/peers"), help="installations, exports, logs")
    running.add_argument("--config", type=Path, default=Path("configs/local.yaml"), help="of our cluster")
    running.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="in that configuration")
    running.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    running.add_argument("--systems", type=_names_of(SYSTEMS), default=list(SYSTEMS), metavar="NAME,...")
    running.add_argument("--languages", type=_names_of(LANGUAGES), default=list(LANGUAGES), metavar="TAG,...")
    running.add_argument("--count", type=positive_int, default=12, help="prompts a language")
    running.add_argument("--repetitions", type=positive_int, default=5)
    running.add_argument("--phase-s", type=float, default=5.0, help="a language's window at a concurrency above one")
    running.add_argument("--warmup", type=positive_int, default=3, help="uncounted answers a language and load")
    running.add_argument("--threads", type=positive_int, nargs="+", default=[1, 2], help="to choose from")
    running.add_argument("--max-tokens", type=positive_int, default=64)
    running.add_argument("--draft-tokens", type=positive_int, default=4, help="of the peers that draft")
    running.add_argument("--json", type=Path, metavar="FILE", help="the table goes beside it")
    return parser.parse_args()


def _names_of(known: Mapping[str, object]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := sorted(set(chosen) - known.keys()):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: unknown; choose from {', '.join(known)}")
        return chosen

    return parse


if __name__ == "__main__":
    sys.exit(main())
