"""What a tenant feels of another that floods: its p95 times to the first token and between tokens, as ratios.

    python -m benchmarks.fairness [--phase-s 12] [--pairs 5] [--output runs/fairness]

Two tenants of equal weight share the places of one target. The victim keeps half of its share busy; the flooder keeps
exactly its share busy, or ten times as much, in alternating phases. The ratio is the median over pairs of phases.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.prompts import corpus_prompts
from benchmarks.results import tell
from polydraft.client import AsyncClient
from polydraft.commands.bench_load import ask, closed_loop
from polydraft.commands.bench_stats import Phase, Record, percentile
from polydraft.commands.child_cluster import cluster
from polydraft.commands.common import NamedPrompt
from polydraft.options import GenerateOptions

PLACES = 8
VICTIM_STREAMS, SHARE, FLOOD = 2, 4, 40
OPTIONS = GenerateOptions(max_tokens=48)


@dataclass(frozen=True, slots=True)
class Felt:
    """What the victim felt in one phase, in seconds, and what both tenants got."""

    first_token_s: float
    between_tokens_s: float
    victim_tokens_per_s: float
    flooder_tokens_per_s: float


async def measure(address: str, prompts: Sequence[NamedPrompt], phase_s: float, num_pairs: int) -> list[list[Felt]]:
    """Pairs of phases: the flooder at its share, then flooding."""
    pairs = []
    async with AsyncClient(address, "victim") as victim, AsyncClient(address, "flooder") as flooder:
        await _phase(victim, flooder, prompts, FLOOD, 4.0)
        for pair in range(num_pairs):
            pairs.append([await _phase(victim, flooder, prompts, streams, phase_s) for streams in (SHARE, FLOOD)])
            for name, felt in zip(("share", "flood"), pairs[-1], strict=True):
                print(f"pair {pair + 1} of {num_pairs}, {name}: {felt}", file=sys.stderr, flush=True)
    return pairs


async def _phase(
    victim: AsyncClient, flooder: AsyncClient, prompts: Sequence[NamedPrompt], num_flooding: int, phase_s: float
) -> Felt:
    half = len(prompts) // 2  # no tenant asks what the other asks

    async def loop(client: AsyncClient, questions: Sequence[NamedPrompt], num_streams: int) -> Phase:
        async def answer(question: NamedPrompt, lap: int) -> Record:
            return await ask(client, question, OPTIONS, seed=7 + lap, drafted=True)

        return await closed_loop(answer, questions, num_streams, phase_s, drafted=True)

    felt, flood = await asyncio.gather(
        loop(victim, prompts[:half], VICTIM_STREAMS), loop(flooder, prompts[half:], num_flooding)
    )
    answers = [record for record in felt.records if felt.begin_s <= record.begin_s < felt.end_s]
    first = [record.arrivals_s[0][0] - record.begin_s for record in answers if record.arrivals_s]
    between = [
        later - earlier
        for record in answers
        for (earlier, _), (later, _) in zip(record.arrivals_s, record.arrivals_s[1:], strict=False)
    ]
    return Felt(percentile(first, 95), percentile(between, 95), felt.tokens_per_s(), flood.tokens_per_s())


def markdown(pairs: Sequence[Sequence[Felt]]) -> str:
    """The table for people."""
    rows = {
        "victim, p95 to the first token (ms)": [[felt.first_token_s * 1e3 for felt in pair] for pair in pairs],
        "victim, p95 between tokens (ms)": [[felt.between_tokens_s * 1e3 for felt in pair] for pair in pairs],
        "victim, tokens/s": [[felt.victim_tokens_per_s for felt in pair] for pair in pairs],
        "flooder, tokens/s": [[felt.flooder_tokens_per_s for felt in pair] for pair in pairs],
    }
    lines = ["| | flooder at its share | at ten times its share | ratio | of pairs |", "|---|---:|---:|---:|---|"]
    for name, values in rows.items():
        share, flood = (statistics.median(side) for side in zip(*values, strict=True))
        ratios = sorted(after / before for before, after in values)
        lines.append(
            f"| {name} | {share:.1f} | {flood:.1f} | {statistics.median(ratios):.2f}"
            f" | {ratios[0]:.2f} to {ratios[-1]:.2f} |"
        )
    return "\n".join(lines)


async def run(args: argparse.Namespace, prompts: Sequence[NamedPrompt]) -> list[list[Felt]]:
    with tempfile.TemporaryDirectory() as directory:
        tenants = Path(directory) / "tenants.yaml"
        tenants.write_text("victim: {max_concurrent: 64}\nflooder: {max_concurrent: 64}\n")
        overrides = [f"tenants_file={tenants}", f"target.max_sessions={PLACES}", *args.set]
        async with cluster(args.config, overrides) as address:
            return await measure(address, prompts, args.phase_s, args.pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/single.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--phase-s", type=float, default=12.0)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("runs/fairness"))
    args = parser.parse_args()
    prompts = [NamedPrompt(one.id, one.prompt, one.language) for one in corpus_prompts(args.corpus, 40)]
    pairs = asyncio.run(run(args, prompts))
    figures = {"pairs": [[asdict(felt) for felt in pair] for pair in pairs]}
    tell(args.output, markdown(pairs), figures)


if __name__ == "__main__":
    main()
