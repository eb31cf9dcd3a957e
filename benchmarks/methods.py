"""Every drafting method of a configuration on the same work: what it brings, costs and needs, in one table.

    python -m benchmarks.methods [--config configs/single.yaml] [--limit 12] [--output runs/methods]

As `polydraft evaluate` asks: one stream, in one process, each question with every method and with none by turns, whole
answers timed. Beside the methods that the configuration names stands `chain`, the language's drafter without branches,
which trees and cascades must beat. What a drafted node costs is in steps of the target without drafts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmarks.results import tell
from cluster.config import Config
from cluster.config_file import load
from deployments.evaluation import Wanted, evaluate
from training.evaluation.report import Cell, Report
from training.provenance import commit, versions

CHAIN = "chain"


@dataclass(frozen=True, slots=True)
class Method:
    """What stands in the table of a drafter whatever is measured."""

    name: str
    source: str
    needs: str


METHODS = {
    one.name: one
    for one in (
        Method("lm", "Yi et al. 2406.16758, EAGLE-2 2406.16858 (trees)", "a drafter per language"),
        Method("multi_candidate", "MCSD 2401.06706", "a drafter per language"),
        Method("cape", "GliDe with CaPE 2402.02082", "a drafter per language"),
        Method("graph", "GSD 2407.16207", "a drafter per language"),
        Method("cascade", "CS Drafting 2312.11462", "a drafter per language"),
        Method("ngram", "prompt lookup", "nothing"),
        Method("ngram_tree", "ADED 2407.12021, SAM decoding 2411.10666", "nothing; tables help"),
        Method("layer_skip", "Draft & Verify 2309.08168", "a tuned set of sublayers"),
    )
}


def wanted(args: argparse.Namespace, drafters: Sequence[str]) -> Wanted:
    return Wanted(
        questions=tuple(args.questions),
        drafters=tuple(drafters),
        own_only=False,
        language=None,
        limit=args.limit,
        temperatures=(args.temperature,),
        seeds=1,
        max_tokens=args.max_tokens,
    )


def chain_of(config: Config) -> list[str]:
    """Overrides that add the language's drafter without branches, if there is one."""
    for drafter in config.drafters.values():
        if drafter.method == "lm" and drafter.models:
            models = ", ".join(f"{tag}: {path}" for tag, path in drafter.models.items())
            fields = f"method: lm, placement: target, branching: 1, models: {{{models}}}"
            return [f"drafters.{CHAIN}={{{fields}}}"]
    return []


def megabytes(config: Config, name: str) -> float:
    """Of the files that the drafter keeps in memory, those of what it is made of included."""
    drafter = config.drafters[name]
    own = sum(
        file.stat().st_size for path in drafter.model_files.values() for file in path.rglob("*") if file.is_file()
    )
    return own / 1e6 + sum(megabytes(config, part) for part in drafter.of)


def markdown(report: Report, config: Config, drafters: Sequence[str]) -> str:
    """One row a drafter and domain; languages in columns: tokens a round, then speedup."""
    lines = []
    for domain in dict.fromkeys(cell["domain"] for cell in report["cells"]):
        cells = [cell for cell in report["cells"] if cell["domain"] == domain]
        languages = list(dict.fromkeys(cell["language"] for cell in cells))
        lines += [
            f"{domain}: tokens a round, speedup",
            "",
            f"| | method | {' | '.join(languages)} | mean | cost of a node | MB |",
            "|---|---|" + "---:|" * (len(languages) + 3),
        ]
        for name in drafters:
            row = {cell["language"]: cell for cell in cells if cell["drafter"] == name}
            lines.append(_row(name, config, [row[language] for language in languages]))
        lines.append("")
    same, asked = report["identical"]
    return "\n".join([*lines, f"identical with and without drafts: {same} of {asked}", "", *_sources(config, drafters)])


def _row(name: str, config: Config, cells: Sequence[Cell]) -> str:
    def shown(tokens: float, speedup: float) -> str:
        return f"{tokens:.2f}, {speedup:.2f}"

    figures = [(cell["tokens_per_round"]["mean"], cell["speedup"]["mean"]) for cell in cells]
    mean = shown(fmean(tokens for tokens, _ in figures), fmean(speedup for _, speedup in figures))
    cost = fmean(cell["node_cost"] for cell in cells)
    each = " | ".join(shown(*one) for one in figures)
    return f"| {name} | {config.drafters[name].method} | {each} | {mean} | {cost:.3f} | {megabytes(config, name):.1f} |"


def _sources(config: Config, drafters: Sequence[str]) -> list[str]:
    used: Mapping[str, Method] = {
        config.drafters[name].method: METHODS[config.drafters[name].method] for name in drafters
    }
    rows = [f"| {one.name} | {one.source} | {one.needs} | yes |" for one in used.values()]
    return ["| method | source | needs | lossless |", "|---|---|---|---|", *rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/single.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--questions", type=Path, nargs="+", required=True, help="as of `polydraft evaluate`")
    parser.add_argument("--drafters", nargs="+", help="default: all that serve several languages")
    parser.add_argument("--limit", type=int, default=12, help="questions a file and language")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--output", type=Path, default=Path("runs/methods"))
    args = parser.parse_args()
    overrides = [*args.set, *chain_of(load(args.config, args.set))]
    config = load(args.config, overrides)
    named = args.drafters or [name for name, one in config.drafters.items() if not one.languages and name != CHAIN]
    drafters = [CHAIN, *named] if CHAIN in config.drafters else named
    report = evaluate(
        args.config,
        overrides,
        wanted(args, drafters),
        {"commit": commit(), "versions": versions()},
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    tell(args.output, markdown(report, config, drafters), {"report": report})


if __name__ == "__main__":
    main()
