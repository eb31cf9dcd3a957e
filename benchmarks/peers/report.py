"""The figures of the comparison, as pure functions, and their table."""

from __future__ import annotations

import os
import platform
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.measure import LOADS, Figure
from polydraft.commands.bench_stats import ci95_of_median
from polydraft.commands.common import PromptId
from training.provenance import commit, versions

Texts = Mapping[str, Sequence[int]]
Retokenise = Callable[[Sequence[int]], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second over the repetitions."""

    median: float
    ci95: tuple[float, float]
    threads: int
    languages: dict[str, float]
    """Median of each language."""


@dataclass(frozen=True, slots=True)
class Row:
    """One system."""

    system: str
    version: str
    speeds: dict[str, Speed]
    """By load."""
    identical: dict[str, tuple[int, int]]
    """By load: how many prompts got the reference's very ids each time, of how many asked."""
    recount: tuple[int, int]
    """Tokens of the answers as counted, and as their texts give when they are tokenised anew."""


def make_row(
    system: str,
    version: str,
    repetitions: Sequence[Sequence[Figure]],
    reference: Texts,
    retokenise: Retokenise,
) -> Row:
    """All figures of one system, a sequence for each repetition."""
    speeds, identical = {}, {}
    for load in LOADS:
        rounds = [[figure for figure in figures if figure.load == load.name] for figures in repetitions]
        if rounds and all(rounds):
            speeds[load.name] = _speed(rounds)
            identical[load.name] = count_identical([figure for figures in rounds for figure in figures], reference)
    texts = {answer.token_ids for figures in repetitions for figure in figures for answer in figure.answers}
    recount = (sum(map(len, texts)), sum(len(retokenise(text)) for text in texts))
    return Row(system, version, speeds, identical, recount)


def count_identical(figures: Sequence[Figure], reference: Texts) -> tuple[int, int]:
    """How many prompts got the reference's ids in every answer, of how many were asked."""
    same: dict[PromptId, bool] = {}
    for figure in figures:
        for answer in figure.answers:
            is_same = list(answer.token_ids) == list(reference[str(answer.question)])
            same[answer.question] = same.get(answer.question, True) and is_same
    return sum(same.values()), len(same)


def table(rows: Sequence[Row], about: Mapping[str, object]) -> str:
    """For people, in Markdown: the median over repetitions, its 95 % interval, the threads; then how it came about."""
    names = [load.name for load in LOADS]
    head = [
        "system",
        *(f"tokens/s, {name} at a time" for name in names),
        "texts as transformers', alone",
        "8 at a time",
    ]
    lines = [_line(head), _line(["---", *["---:"] * (len(head) - 1)])]
    for row in rows:
        shares = [_share(row.identical.get(name)) for name in names[:2]]
        lines.append(_line([row.system, *(_cell(row.speeds.get(name)) for name in names), *shares]))
    lines += ["", *(f"- {row.system}: {row.version}" for row in rows)]
    lines += [f"- {name}: {_words(value)}" for name, value in about.items()]
    return "\n".join(lines)


def conditions() -> dict[str, object]:
    """The machine, the commit and our versions."""
    return {"machine": _processor(), "cpus": os.cpu_count(), "commit": commit(), "versions": versions()}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _speed(rounds: Sequence[Sequence[Figure]]) -> Speed:
    means = [statistics.fmean(figure.tokens_per_s for figure in figures) for figures in rounds]
    languages: dict[str, list[float]] = {}
    for figures in rounds:
        for figure in figures:
            languages.setdefault(figure.language, []).append(figure.tokens_per_s)
    return Speed(
        median=statistics.median(means),
        ci95=ci95_of_median(means, random.Random(0)),
        threads=rounds[0][0].threads,
        languages={language: statistics.median(values) for language, values in languages.items()},
    )


def _cell(speed: Speed | None) -> str:
    if speed is None:
        return "-"
    low, high = speed.ci95
    return f"**{speed.median:.0f}** ({low:.0f}-{high:.0f}), {speed.threads} thr."


def _share(identical: tuple[int, int] | None) -> str:
    return "-" if identical is None else f"{identical[0]}/{identical[1]}"


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {of}" for name, of in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
