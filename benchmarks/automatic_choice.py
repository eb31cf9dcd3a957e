"""What the automatic choice costs against knowing: one mixed stream, every drafter fixed, and `auto`, by turns.

    python -m benchmarks.automatic_choice --questions everyday.jsonl [--limit 40] [--warmup 0.25]

Questions of several languages come mixed. Each is asked once with each drafter, once without drafts and once with
`auto`, the order going round, so that a slow moment of the machine hits all. The figure is seconds of whole answers;
those of `auto` stand against the drafter that was best for each language with hindsight, and against each one for all.
Of the drafters that are named, one that is configured for some languages is chosen for these alone, another for all.
The first questions of each file and language are asked likewise and not counted: a router learns from them.
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

from benchmarks.results import tell
from cluster.config_file import load
from polydraft.answers import Answer
from polydraft.client import AsyncClient
from polydraft.commands.child_cluster import cluster
from polydraft.options import GenerateOptions
from training.evaluation.questions import UNKNOWN, Question, read_questions

AUTO, OFF = "auto", "off"
Cell = tuple[str, str]
"""Of a table: file and language."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question, asked in each way."""

    question: Question
    answers: Mapping[str, Answer]

    @property
    def language(self) -> str:
        return self.question.language

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
    taken: Mapping[Cell, Mapping[str, float]]
    """The share of rounds by drafter under `auto`."""
    seconds: Mapping[Cell, Mapping[str, float]]
    """Of each way over those of decoding without drafts."""


def hindsight(asked: Sequence[Asked], best: Mapping[str, str]) -> float:
    return sum(one.seconds(AUTO) for one in asked) / sum(one.seconds(best[one.language]) for one in asked)


def figures(asked: Sequence[Asked], ways: Sequence[str]) -> Figures:
    totals = {tag: _sums([one for one in asked if one.language == tag], ways) for tag in _languages(asked)}
    best = {tag: min((way for way in ways if way != AUTO), key=lambda way: sums[way]) for tag, sums in totals.items()}
    rng = random.Random(0)
    drawn = sorted(hindsight(rng.choices(asked, k=len(asked)), best) for _ in range(500))
    by_cell: defaultdict[Cell, list[Asked]] = defaultdict(list)
    for one in asked:
        by_cell[one.question.domain, one.language].append(one)
    auto_s = sum(one.seconds(AUTO) for one in asked)
    return Figures(
        identical=sum(len({answer.token_ids for answer in one.answers.values()}) == 1 for one in asked),
        best=best,
        hindsight=hindsight(asked, best),
        spread=(drawn[12], drawn[487]),
        fixed={way: sum(one.seconds(way) for one in asked) / auto_s for way in ways if way != AUTO},
        taken={cell: _taken(some) for cell, some in by_cell.items()},
        seconds={cell: _over_off(_sums(some, ways)) for cell, some in by_cell.items()},
    )


def _languages(asked: Sequence[Asked]) -> list[str]:
    return [*dict.fromkeys(one.language for one in asked)]


def _sums(asked: Sequence[Asked], ways: Sequence[str]) -> dict[str, float]:
    return {way: sum(one.seconds(way) for one in asked) for way in ways}


def _over_off(sums: Mapping[str, float]) -> dict[str, float]:
    return {way: seconds / sums[OFF] for way, seconds in sums.items()}


def _taken(asked: Sequence[Asked]) -> dict[str, float]:
    rounds: Counter[str] = Counter()
    for one in asked:
        for use in one.answers[AUTO].speculation.drafters:
            rounds[use.drafter] += use.rounds
    return {name: number / rounds.total() for name, number in rounds.items() if number}


def markdown(found: Figures, asked: Sequence[Asked], ways: Sequence[str]) -> str:
    """The tables for people."""
    low, high = found.spread
    middle = median(one.seconds(AUTO) / one.seconds(found.best[one.language]) for one in asked)
    lines = [
        f"auto over the best drafter of each language with hindsight: {found.hindsight:.3f} ({low:.3f} to {high:.3f})",
        f"median over requests: {middle:.3f}",
        f"same text in all ways: {found.identical}/{len(asked)}",
        "best with hindsight: " + ", ".join(f"{tag} {way}" for tag, way in sorted(found.best.items())),
        "",
        "Seconds over those without drafts:",
        "",
        "| | | " + " | ".join(ways) + " | rounds under auto |",
        "|---|---|" + "---:|" * len(ways) + "---|",
    ]
    for (domain, tag), row in sorted(found.seconds.items()):
        shares = sorted(found.taken[domain, tag].items(), key=lambda item: -item[1])
        taken = ", ".join(f"{name} {share:.0%}" for name, share in shares)
        lines.append(f"| {domain} | {tag} | " + " | ".join(f"{row[way]:.3f}" for way in ways) + f" | {taken} |")
    fixed = " | ".join(f"{found.fixed[way]:.3f}" if way in found.fixed else "1" for way in ways)
    return "\n".join([*lines, f"| all, over auto | | {fixed} | |"])


async def stream(
    client: AsyncClient, questions: Sequence[Question], ways: Sequence[str], options: GenerateOptions
) -> list[Asked]:
    """Ask each question in each way, the order going round."""
    asked = []
    for number, question in enumerate(questions):
        first = number % len(ways)
        answers = {}
        for way in (*ways[first:], *ways[:first]):
            asking: GenerateOptions = {**options, "language": question.language, "speculation": way, "seed": number}
            answers[way] = await client.generate(question.turns[0] + "\n", **asking)
        asked.append(Asked(question, answers))
    return asked


def mixed(questions: Sequence[Question], share_first: float) -> tuple[list[Question], list[Question]]:
    """The first of each file and language, and the others; each shuffled."""
    in_all, seen = Counter((question.domain, question.language) for question in questions), Counter[Cell]()
    first: list[Question] = []
    rest: list[Question] = []
    for question in questions:
        cell = question.domain, question.language
        seen[cell] += 1
        (first if seen[cell] <= share_first * in_all[cell] else rest).append(question)
    rng = random.Random(1)
    rng.shuffle(first)
    rng.shuffle(rest)
    return first, rest


async def measure(args: argparse.Namespace, questions: Sequence[Question]) -> tuple[list[Asked], list[str]]:
    options = GenerateOptions(max_tokens=args.max_tokens, temperature=args.temperature)
    ways = [AUTO, OFF, *args.drafters]
    languages = ",".join(dict.fromkeys(question.language for question in questions))
    serve = [
        f"drafters.{name}.languages=[{languages if name in args.drafters else ''}]"
        for name, drafter in load(args.config, args.set).drafters.items()
        if name not in args.drafters or not drafter.languages
    ]
    async with cluster(args.config, [*args.set, *serve]) as address, AsyncClient(address) as client:
        first, rest = mixed(questions, args.warmup)
        await stream(client, first, ways, options)
        return await stream(client, rest, ways, options), ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=Path, nargs="+", required=True, metavar="FILE.jsonl")
    parser.add_argument("--config", type=Path, default=Path("configs/single.yaml"))
    parser.add_argument("--drafters", nargs="+", default=["likeliest", "cape", "ngram_tree"], help="to choose between")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--limit", type=int, default=40, help="questions of each file and language")
    parser.add_argument("--warmup", type=float, default=0.25, help="share of them to learn from, not counted")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--output", type=Path, default=Path("runs/automatic_choice"))
    args = parser.parse_args()
    questions = read_questions(args.questions, lambda text: UNKNOWN, limit=args.limit)
    asked, ways = asyncio.run(measure(args, questions))
    found = figures(asked, ways)
    tell(args.output, markdown(found, asked, ways), {"ways": ways, "hindsight": found.hindsight, "fixed": found.fixed})


if __name__ == "__main__":
    main()
