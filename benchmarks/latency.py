"""One stream: speedup of drafting by language, and what the cluster adds to the target's step and the drafter's.

    python -m benchmarks.latency [--count 8] [--temperatures 0 1] [--output runs/latency]

Each prompt is asked through the cluster with drafting on and off, and decoded in this process without any
cluster, by turns, so that a slow moment of the machine hits all three. Overhead across processes is 1 -
(steps and drafting a token, in this process) / (time a token, through the cluster).
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.in_process import InProcess, Timed
from benchmarks.prompts import CorpusPrompt, corpus_prompts
from benchmarks.results import tell
from engine.sampling import SamplingParams
from polydraft.client import AsyncClient
from polydraft.commands import bench_stats as stats
from polydraft.commands.bench_load import ask
from polydraft.commands.bench_stats import Record
from polydraft.commands.child_cluster import cluster
from polydraft.commands.common import NamedPrompt
from polydraft.options import GenerateOptions
from training.demo_family.corpus import LANGUAGES

MAX_TOKENS = 64
SEED = 7


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt, three times."""

    language: str
    on: Record
    off: Record
    inside: Timed
    """In this process, with drafting."""


@dataclass(frozen=True, slots=True)
class Result:
    """One temperature. Ratios come with their 95 % interval over prompts."""

    temperature: float
    speedup: tuple[float, float, float]
    speedups: dict[str, float]
    tokens_per_round: float
    tokens_per_s_on: float
    tokens_per_s_off: float
    ttft_ms: dict[str, float]
    itl_ms: dict[str, float]
    round_ms: float
    target_ms: float
    draft_ms: float
    overhead_across_processes: tuple[float, float, float]
    overhead_in_process: float
    identical: int
    prompts: int


def interval(figure: Callable[[Sequence[Asked]], float], asked: Sequence[Asked]) -> tuple[float, float, float]:
    """The figure over all prompts and its 95 % bootstrap interval."""
    rng = random.Random(0)
    drawn = sorted(figure(rng.choices(asked, k=len(asked))) for _ in range(500))
    return figure(asked), drawn[12], drawn[487]


def speedup(asked: Sequence[Asked]) -> float:
    """Mean speed with drafting over mean speed without."""
    return stats.ratio(stats.mean_speed([one.on for one in asked]), stats.mean_speed([one.off for one in asked]))


def round_s(asked: Sequence[Asked]) -> float:
    """Of the cluster: from one arrival of tokens to the next."""
    decode_s = sum(one.on.arrivals_s[-1][0] - one.on.arrivals_s[0][0] for one in asked if one.on.arrivals_s)
    return decode_s / max(sum(len(one.on.arrivals_s) - 1 for one in asked), 1)


def overhead(asked: Sequence[Asked]) -> float:
    """Of the cluster's time a token, what is neither the target's step nor drafting in this process."""
    inside_s = sum(one.inside.target_s + one.inside.draft_s for one in asked)
    inside_s /= sum(len(one.inside.token_ids) for one in asked)
    cluster_s = sum(one.on.arrivals_s[-1][0] - one.on.arrivals_s[0][0] for one in asked if one.on.arrivals_s)
    cluster_s /= sum(len(one.on.token_ids) for one in asked)
    return 1 - inside_s / cluster_s


def result(temperature: float, asked: Sequence[Asked]) -> Result:
    on, off = [one.on for one in asked], [one.off for one in asked]
    inside = [one.inside for one in asked]
    rounds = sum(one.rounds for one in inside)
    total_s = sum(one.total_s for one in inside)
    return Result(
        temperature=temperature,
        speedup=interval(speedup, asked),
        speedups={lang: speedup([one for one in asked if one.language == lang]) for lang in LANGUAGES},
        tokens_per_round=stats.tokens_per_round(on),
        tokens_per_s_on=stats.mean_speed(on),
        tokens_per_s_off=stats.mean_speed(off),
        ttft_ms=stats.p50_p95(stats.ttft_ms(on)),
        itl_ms=stats.p50_p95(stats.itl_ms(on)),
        round_ms=1e3 * round_s(asked),
        target_ms=1e3 * sum(one.target_s for one in inside) / rounds,
        draft_ms=1e3 * sum(one.draft_s for one in inside) / rounds,
        overhead_across_processes=interval(overhead, asked),
        overhead_in_process=1 - sum(one.target_s + one.draft_s for one in inside) / total_s,
        identical=sum(one.on.token_ids == one.off.token_ids for one in asked),
        prompts=len(asked),
    )


async def measure(args: argparse.Namespace, prompts: Sequence[CorpusPrompt], inside: InProcess) -> list[Result]:
    async with cluster(args.config, args.set) as address, AsyncClient(address) as client:
        results = []
        for temperature in args.temperatures:
            options = GenerateOptions(max_tokens=MAX_TOKENS, temperature=temperature)
            sampling = SamplingParams(temperature, 0, 1.0, SEED)
            asked: list[Asked] = []
            for number, prompt in enumerate([*prompts[:5], *prompts]):  # the first five warm up
                question = NamedPrompt(prompt.id, prompt.prompt, prompt.language)
                sides = {
                    drafted: await ask(client, question, options, seed=SEED, drafted=drafted)
                    for drafted in ((True, False) if number % 2 else (False, True))
                }
                timed = inside.answer(prompt, sampling, MAX_TOKENS, drafted=True)
                if number >= 5:
                    asked.append(Asked(prompt.language, sides[True], sides[False], timed))
            results.append(result(temperature, asked))
        return results


def markdown(results: Sequence[Result]) -> str:
    """The table for people."""
    lines = [
        "| | " + " | ".join(f"T = {one.temperature:g}" for one in results) + " |",
        "|---|" + "---:|" * len(results),
    ]

    def row(name: str, cell: Callable[[Result], str]) -> None:
        lines.append(f"| {name} | " + " | ".join(cell(one) for one in results) + " |")

    def spread(value: tuple[float, float, float]) -> str:
        return f"{value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})"

    row("speedup over drafting off", lambda one: spread(one.speedup))
    for language in LANGUAGES:
        row(f"speedup, {language}", lambda one, language=language: f"{one.speedups[language]:.2f}")  # type: ignore[misc]
    row("tokens a round", lambda one: f"{one.tokens_per_round:.2f}")
    row("tokens/s, on and off", lambda one: f"{one.tokens_per_s_on:.0f}, {one.tokens_per_s_off:.0f}")
    row("first token, ms (p50, p95)", lambda one: f"{one.ttft_ms['p50']:.0f}, {one.ttft_ms['p95']:.0f}")
    row("round, ms", lambda one: f"{one.round_ms:.1f}")
    row("target's step, ms", lambda one: f"{one.target_ms:.1f}")
    row("drafting, ms", lambda one: f"{one.draft_ms:.1f}")
    row("overhead across processes", lambda one: spread(one.overhead_across_processes))
    row("overhead in process", lambda one: f"{one.overhead_in_process:.3f}")
    row("same text on and off", lambda one: f"{one.identical}/{one.prompts}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/local.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--count", type=int, default=8, help="prompts a language")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--output", type=Path, default=Path("runs/latency"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    of_language = [list(corpus_prompts(args.corpus, args.count))[i :: args.count] for i in range(args.count)]
    prompts = [prompt for some in of_language for prompt in some]  # languages in turn
    results = asyncio.run(measure(args, prompts, InProcess(args.models, [*LANGUAGES])))
    figures = {"results": [asdict(one) for one in results]}
    tell(args.output, markdown(results), figures)


if __name__ == "__main__":
    main()
