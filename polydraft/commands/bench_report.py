"""The report of a benchmark: a JSON object that scripts read, and the table of the same figures."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import TypedDict

from polydraft.commands import bench_stats as stats
from polydraft.commands.bench_stats import Phase, Record


class LanguageFigures(TypedDict):
    """One language's part of the report."""

    speedup: float
    tokens_per_round: float
    tokens_per_s_on: float
    tokens_per_s_off: float
    ttft_ms: dict[str, float]
    itl_ms: dict[str, float]
    drafter: str


class Report(TypedDict):
    """The contract of `bench --json`."""

    mean_speedup: float
    ci95: list[float]
    mean_tokens_per_round: float
    identical: list[int]
    languages: dict[str, LanguageFigures]
    config: dict[str, object]
    commit: str
    versions: dict[str, str]


def report_alone(records: Sequence[Record], config: dict[str, object]) -> Report:
    """One stream: per language the ratio of means, over languages their mean."""
    by_language = _by_language(records)
    languages = {}
    for language, of_language in by_language.items():
        on = stats.mean_speed([record for record in of_language if record.drafted])
        off = stats.mean_speed([record for record in of_language if not record.drafted])
        languages[language] = _language(of_language, stats.ratio(on, off), on, off)
    speedup = statistics.fmean(figures["speedup"] for figures in languages.values())
    ci95 = stats.ci95_of_mean_speedup(by_language, random.Random(0))
    return _report(records, languages, speedup, ci95, config)


def report_loaded(phases: Sequence[Phase], config: dict[str, object]) -> Report:
    """A closed loop: the median over pairs of phases of completed tokens a second, on over off."""
    records = [record for phase in phases for record in phase.records]
    languages = {}
    for language, of_language in _by_language(records).items():
        on = statistics.median(phase.tokens_per_s(language) for phase in phases if phase.drafted)
        off = statistics.median(phase.tokens_per_s(language) for phase in phases if not phase.drafted)
        speedup = statistics.median(stats.pair_ratios(phases, language))
        languages[language] = _language(of_language, speedup, on, off)
    ratios = stats.pair_ratios(phases)
    ci95 = stats.ci95_of_median(ratios, random.Random(0))
    return _report(records, languages, statistics.median(ratios), ci95, config)


def table(report: Report) -> str:
    """The figures for people."""
    lines = [
        f"{'language':<9} {'drafter':<12} {'tokens/round':>12} {'tokens/s on':>12} {'off':>8} {'speedup':>8}"
        f" {'ttft p50':>9} {'itl p50':>8}"
    ]
    for language, row in report["languages"].items():
        lines.append(
            f"{language:<9} {row['drafter']:<12} {row['tokens_per_round']:>12.2f} {row['tokens_per_s_on']:>12.1f}"
            f" {row['tokens_per_s_off']:>8.1f} {row['speedup']:>8.2f} {row['ttft_ms']['p50']:>6.0f} ms"
            f" {row['itl_ms']['p50']:>5.1f} ms"
        )
    low, high = report["ci95"]
    same, asked = report["identical"]
    lines.append(f"mean speedup {report['mean_speedup']:.2f} (95 % interval {low:.2f} to {high:.2f})")
    lines.append(f"mean tokens per round {report['mean_tokens_per_round']:.2f}")
    lines.append(f"identical answers with drafting on and off: {same} of {asked}")
    return "\n".join(lines)


def _report(
    records: Sequence[Record],
    languages: dict[str, LanguageFigures],
    speedup: float,
    ci95: tuple[float, float],
    config: dict[str, object],
) -> Report:
    from training.provenance import commit, versions

    return {
        "mean_speedup": speedup,
        "ci95": list(ci95),
        "mean_tokens_per_round": statistics.fmean(row["tokens_per_round"] for row in languages.values()),
        "identical": list(stats.count_identical(records)),
        "languages": languages,
        "config": config,
        "commit": commit(),
        "versions": versions(),
    }


def _language(records: Sequence[Record], speedup: float, on: float, off: float) -> LanguageFigures:
    drafted = [record for record in records if record.drafted]
    return {
        "speedup": speedup,
        "tokens_per_round": stats.tokens_per_round(drafted),
        "tokens_per_s_on": on,
        "tokens_per_s_off": off,
        "ttft_ms": stats.p50_p95(stats.ttft_ms(drafted)),
        "itl_ms": stats.p50_p95(stats.itl_ms(drafted)),
        "drafter": ",".join(sorted({record.drafter for record in drafted})),
    }


def _by_language(records: Sequence[Record]) -> dict[str, list[Record]]:
    grouped: dict[str, list[Record]] = {}
    for record in records:
        grouped.setdefault(record.language, []).append(record)
    return dict(sorted(grouped.items()))
