"""Is `polydraft train plan` right on this machine? Its forecasts beside what the engine and the drafters take.

    PYTHONPATH=.:kernels python -m benchmarks.plan_check [--corpus ../shared/corpus] [--output runs/plan-check]

A ladder of targets and drafters with random weights, one thread, in this process: a step with and without a draft, a
drafted token, and the tokens a second of each pair. These are counted: drafts are accepted by lot, `count_rounds` says
how many rounds the tokens take, each round costs what its parts were measured to take. "Law" is the plan's formula fed
with the measured parts, so that nothing but the law of tokens a round can differ. Each round of the ladder measures the
machine's figures and the models right after one another; medians over the rounds, the error that of the ratios.

With a corpus also the demo drafters, whose answers are real: speedup in process beside the plan's for as many tokens a
round. Their trees take fewer passes a block than the chains that the plan counts, so it should fall short.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from benchmarks.in_process import InProcess
from benchmarks.prompts import corpus_prompts
from benchmarks.results import tell
from engine.drafters.checkpoint import read_manifest
from engine.sampling import SamplingParams
from training.planning.measure import BLOCK, measure_this, time_drafts, time_steps
from training.planning.model import RoundCosts, pass_s, round_costs, tokens_a_round
from training.planning.random_models import random_drafter, random_target
from training.planning.shapes import DecoderShape, drafter_shape, read_shape
from training.replay import count_rounds

ACCEPTANCE = 0.65
COUNTED_TOKENS = 20_000
MAX_TOKENS = 64
TARGETS = {
    "5M": DecoderShape(4, 256, 768, 4, 2, 64, 8192),
    "14M": DecoderShape(6, 384, 1152, 6, 3, 64, 8192),
    "40M": DecoderShape(10, 576, 1728, 9, 3, 64, 8192),
}
DRAFTERS = {
    f"{layers}x{width}": drafter_shape(layers, width, 2, 2_600)
    for layers, width in ((1, 128), (1, 256), (1, 512), (2, 256), (4, 128))
}


@dataclass(frozen=True, slots=True)
class Compared:
    """Forecasts beside measurements, one a round."""

    what: str
    unit: str
    planned: list[float]
    measured: list[float]

    @property
    def error(self) -> float:
        """Median of planned over measured, less one."""
        return statistics.median(a / b for a, b in zip(self.planned, self.measured, strict=True)) - 1


class Ladder:
    """What was found so far."""

    def __init__(self) -> None:
        self._found: dict[str, Compared] = {}

    def add(self, what: str, unit: str, planned: float, measured: float) -> None:
        compared = self._found.setdefault(what, Compared(what, unit, [], []))
        compared.planned.append(planned)
        compared.measured.append(measured)

    @property
    def found(self) -> list[Compared]:
        return [*self._found.values()]


def tokens_per_s(costs: RoundCosts, num_drafted: int) -> float:
    """The plan's formula."""
    return tokens_a_round(ACCEPTANCE, num_drafted) / costs.round_s(num_drafted)


def counted_tokens_per_s(costs: RoundCosts, num_drafted: int) -> float:
    """Round by round, drafts accepted by lot."""
    rng = random.Random(0)
    hits = [rng.random() < ACCEPTANCE for _ in range(COUNTED_TOKENS)]
    return COUNTED_TOKENS / (count_rounds(hits, num_drafted) * costs.round_s(num_drafted))


def check_target(ladder: Ladder, name: str, repeats: int) -> None:
    """One round of one target with every drafter."""
    target = TARGETS[name]
    hardware = measure_this(target).hardware
    plain_s, drafted_s = time_steps(random_target(target), (0, BLOCK), repeats)
    for rows, measured_s in ((1, plain_s), (1 + BLOCK, drafted_s)):
        ladder.add(f"{name}, step of {rows} rows", "ms", 1e3 * pass_s(target, hardware.target, rows), 1e3 * measured_s)
    for drafter_name, drafter in DRAFTERS.items():
        planned_s, draft_s = pass_s(drafter, hardware.drafter), time_drafts(random_drafter(drafter), repeats)
        ladder.add(f"{drafter_name}, drafted token", "ms", 1e3 * planned_s, 1e3 * draft_s)
        parts = RoundCosts(draft_s, (plain_s, *[drafted_s] * BLOCK))
        counted = counted_tokens_per_s(parts, BLOCK)
        planned = tokens_per_s(round_costs(target, drafter, hardware), BLOCK)
        ladder.add(f"{name} with {drafter_name}", "tokens/s", planned, counted)
        ladder.add("law, all pairs", "tokens/s", tokens_per_s(parts, BLOCK), counted)


def check_demo(ladder: Ladder, models: Path, corpus: Path, count: int) -> None:
    """The demo family's drafters, greedy, blocks of `BLOCK`."""
    prompts = list(corpus_prompts(corpus, count))
    languages = sorted({prompt.language for prompt in prompts})
    inside = InProcess(models, languages, draft_nodes=BLOCK)
    target = read_shape(models / "target")
    for language in languages:
        hardware = measure_this(target).hardware
        speedups, tokens, rounds = [], 0, 0
        for prompt in (one for one in prompts if one.language == language):
            plain, drafted = (
                inside.answer(prompt, SamplingParams(temperature=0.0), MAX_TOKENS, drafted=is_drafted)
                for is_drafted in (False, True)
            )
            tokens, rounds = tokens + len(drafted.token_ids) - 1, rounds + drafted.rounds
            speedups.append(plain.total_s / drafted.total_s)
        costs = round_costs(target, _head_shape(models / "drafters" / language), hardware)
        planned = tokens / rounds * costs.step_s[0] / costs.round_s(BLOCK)
        what = f"demo, {language}, {tokens / rounds:.2f} tokens a round"
        ladder.add(what, "times plain", planned, statistics.median(speedups))


def _head_shape(drafter: Path) -> DecoderShape:
    """Of its rows those that it may propose."""
    return replace(read_shape(drafter), rows=read_manifest(drafter).num_head_tokens)


def markdown(found: Sequence[Compared]) -> str:
    """The table for people."""
    lines = ["| | | plan | measured | error |", "|---|---|---:|---:|---:|"]
    for one in found:
        planned, measured = statistics.median(one.planned), statistics.median(one.measured)
        lines.append(f"| {one.what} | {one.unit} | {planned:.3g} | {measured:.3g} | {100 * one.error:+.0f} % |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=60, help="timings in a round (default: %(default)s)")
    parser.add_argument("--corpus", type=Path, help="check the demo family too")
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--count", type=int, default=8, help="prompts a language (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/plan-check"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    ladder = Ladder()
    for _ in range(args.rounds):
        for name in args.targets:
            check_target(ladder, name, args.repeats)
    if args.corpus is not None:
        check_demo(ladder, args.models, args.corpus, args.count)
    figures = {"compared": [asdict(one) | {"error": one.error} for one in ladder.found]}
    tell(args.output, markdown(ladder.found), figures)


if __name__ == "__main__":
    main()
