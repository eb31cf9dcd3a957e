"""What the automatic choice costs against knowing: one mixed stream, every drafter fixed, and `auto`, by turns.

    python -m benchmarks.automatic_choice [--count 24] [--warmup 12] [--output runs/automatic_choice]

Requests in five languages come mixed. Each is asked once with each drafter, once without drafts and once with `auto`,
the order going round, so that a slow moment of the machine hits all. The figure is seconds of whole answers; those of
`auto` stand against the drafter that was best for each language with hindsight, and against each one for all. The
first requests of each language are asked likewise and not counted: a router learns from them.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.prompts import CorpusPrompt, corpus_prompts, everyday_prompts
from benchmarks.results import tell
from polydraft.answers import Answer
from polydraft.client import AsyncClient
from polydraft.commands.child_cluster import cluster
from polydraft.options import GenerateOptions
from training.demo_family.corpus import LANGUAGES

AUTO, OFF = "auto", "off"


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt, asked in each way."""

    language: str
    answers: Mapping[str, Answer]

    def seconds(self, way: str) -> float:
        return self.answers[way].timing.total_s


@dataclass(frozen=True, slots=True)
class Figures:
    """Of a stream. Ratios are seconds over those of `auto`: above 1 `auto` was faster."""

    identical: int
    best: Mapping[str, str]
    """By language, with hindsight."""
    hindsight: float
    """Seconds of `auto` over those of the best of each language."""
    spread: tuple[float, float]
    """95 % bootstrap interval of that."""
    fixed: Mapping[str, float]
    taken: Mapping[str, Mapping[str, float]]
    """By language, the share of rounds by drafter under `auto`."""
    by_language: Mapping[str, Mapping[str, float]]
    """Seconds of each way over those of decoding without drafts."""


def hindsight(asked: Sequence[Asked], best: Mapping[str, str]) -> float:
    return sum(one.seconds(AUTO) for one in asked) / sum(one.seconds(best[one.language]) for one in asked)


def figures(asked: Sequence[Asked], ways: Sequence[str]) -> Figures:
    of_language = {tag: [one for one in asked if one.language == tag] for tag in LANGUAGES}
    total = {tag: {way: sum(one.seconds(way) for one in some) for way in ways} for tag, some in of_language.items()}
    best = {tag: min((way for way in ways if way != AUTO), key=lambda way: sums[way]) for tag, sums in total.items()}
    rng = random.Random(0)
    drawn = sorted(hindsight(rng.choices(asked, k=len(asked)), best) for _ in range(500))
    rounds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in asked:
        for use in one.answers[AUTO].speculation.drafters:
            rounds[one.language][use.drafter] += use.rounds
    auto_s = sum(one.seconds(AUTO) for one in asked)
    return Figures(
        identical=sum(len({answer.token_ids for answer in one.answers.values()}) == 1 for one in asked),
        best=best,
        hindsight=hindsight(asked, best),
        spread=(drawn[12], drawn[487]),
        fixed={way: sum(one.seconds(way) for one in asked) / auto_s for way in ways if way != AUTO},
        taken={
            tag: {name: number / used.total() for name, number in used.items() if number}
            for tag, used in rounds.items()
        },
        by_language={tag: {way: sums[way] / sums[OFF] for way in ways} for tag, sums in total.items()},
    )


def markdown(found: Figures, asked: Sequence[Asked], ways: Sequence[str]) -> str:
    """The tables for people."""
    low, high = found.spread
    middle = median(one.seconds(AUTO) / one.seconds(found.best[one.language]) for one in asked)
    lines = [
        f"auto over the best drafter of each language with hindsight: {found.hindsight:.3f} ({low:.3f} to {high:.3f})",
        f"median over requests: {middle:.3f}",
        f"same text in all ways: {found.identical}/{len(asked)}",
        "",
        "Seconds over those without drafts:",
        "",
        "| | " + " | ".join(ways) + " | best | rounds under auto |",
        "|---|" + "---:|" * len(ways) + "---|---|",
    ]
    for tag, row in found.by_language.items():
        shares = sorted(found.taken.get(tag, {}).items(), key=lambda item: -item[1])
        taken = ", ".join(f"{name} {share:.0%}" for name, share in shares)
        lines.append(
            f"| {tag} | " + " | ".join(f"{row[way]:.3f}" for way in ways) + f" | {found.best[tag]} | {taken} |"
        )
    fixed = " | ".join(f"{found.fixed[way]:.3f}" if way in found.fixed else "1" for way in ways)
    return "\n".join([*lines, f"| all, over auto | {fixed} | | |"])


async def stream(
    client: AsyncClient, prompts: Sequence[CorpusPrompt], ways: Sequence[str], options: GenerateOptions
) -> list[Asked]:
    """Ask each prompt in each way, the order going round."""
    asked = []
    for number, prompt in enumerate(prompts):
        first = number % len(ways)
        answers = {}
        for way in (*ways[first:], *ways[:first]):
            asking: GenerateOptions = {**options, "language": prompt.language, "speculation": way, "seed": number}
            answers[way] = await client.generate(prompt.prompt, **asking)
        asked.append(Asked(prompt.language, answers))
    return asked


def mixed(prompts: Sequence[CorpusPrompt], num_first: int) -> tuple[list[CorpusPrompt], list[CorpusPrompt]]:
    """The first of each language, and the others; each shuffled."""
    of_language = {tag: [prompt for prompt in prompts if prompt.language == tag] for tag in LANGUAGES}
    first = [prompt for some in of_language.values() for prompt in some[:num_first]]
    rest = [prompt for some in of_language.values() for prompt in some[num_first:]]
    rng = random.Random(1)
    rng.shuffle(first)
    rng.shuffle(rest)
    return first, rest


async def measure(args: argparse.Namespace, prompts: Sequence[CorpusPrompt]) -> tuple[list[Asked], list[str]]:
    options = GenerateOptions(max_tokens=args.max_tokens, temperature=args.temperature)
    ways = [AUTO, OFF, *args.drafters]
    serve = [f"drafters.{name}.languages=[{','.join(LANGUAGES)}]" for name in args.drafters]
    async with cluster(args.config, [*serve, *args.set]) as address, AsyncClient(address) as client:
        first, rest = mixed(prompts, args.warmup)
        await stream(client, first, ways, options)
        return await stream(client, rest, ways, options), ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/single.yaml")
    parser.add_argument("--drafters", nargs="+", default=["likeliest", "ngram", "cape"], help="to choose between")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--sentences", choices=["everyday", "all"], default="everyday")
    parser.add_argument("--count", type=int, default=24, help="requests a language")
    parser.add_argument("--warmup", type=int, default=12, help="requests a language before those")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--output", type=Path, default=Path("runs/automatic_choice"))
    args = parser.parse_args()
    count = args.count + args.warmup
    everyday = args.sentences == "everyday"
    prompts = everyday_prompts(args.corpus, "test", count) if everyday else corpus_prompts(args.corpus, count)
    asked, ways = asyncio.run(measure(args, list(prompts)))
    found = figures(asked, ways)
    tell(args.output, markdown(found, asked, ways), {"ways": ways, "hindsight": found.hindsight, "fixed": found.fixed})


if __name__ == "__main__":
    main()
