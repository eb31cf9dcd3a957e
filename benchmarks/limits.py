"""How exactly tenants' limits hold over several routers: what was let through while every caller floods.

    python -m benchmarks.limits [--routers 2] [--seconds 60] [--output runs/limits]

One tenant a limit, all on one cluster one after another. Callers have a connection each, which the routers share among
themselves, and ask again as soon as they are told to. A minute of a limit by time allows one second more: the bucket
is full at first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.prompts import corpus_prompts
from benchmarks.results import tell
from polydraft import AsyncClient, Chunk, Overloaded, Started
from polydraft.commands.child_cluster import cluster
from polydraft.options import GenerateOptions

NUM_CALLERS = 16
LIMITS = {
    "requests_per_s": 4.0,
    "prompt_tokens_per_minute": 6_000,
    "output_tokens_per_minute": 3_000,
    "max_concurrent": 6,
}
SHORT_ANSWER, LONG_ANSWER = 4, 24
"""Tokens: the machine must have time for more than the limit."""


@dataclass(slots=True)
class Counts:
    """What the callers of one tenant got."""

    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    refused: int = 0
    open: int = 0
    most_open: int = 0
    open_s: float = 0.0


async def flood(address: str, tenant: str, max_tokens: int, prompts: Sequence[str], seconds: float) -> Counts:
    """All callers of one tenant at once, for so long."""
    counts = Counts()
    end_s = time.monotonic() + seconds
    async with AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(AsyncClient(address, tenant)) for _ in range(NUM_CALLERS)]
        calls = [_ask(client, prompts, number, max_tokens, counts, end_s) for number, client in enumerate(callers)]
        await asyncio.gather(*calls)
    return counts


async def _ask(
    client: AsyncClient, prompts: Sequence[str], number: int, max_tokens: int, counts: Counts, end_s: float
) -> None:
    options = GenerateOptions(max_tokens=max_tokens)
    while (begin_s := time.monotonic()) < end_s:
        number += 1
        opened = False
        try:
            async for event in client.stream(prompts[number % len(prompts)], **options):
                now_s = time.monotonic()
                if isinstance(event, Started):
                    opened = True
                    counts.open += 1
                    counts.most_open = max(counts.most_open, counts.open)
                    if now_s < end_s:
                        counts.requests += 1
                        counts.prompt_tokens += event.prompt_tokens
                elif isinstance(event, Chunk) and now_s < end_s:
                    counts.output_tokens += len(event.token_ids)
        except Overloaded as error:
            counts.refused += 1
            await asyncio.sleep(error.retry_after_s or 0.1)
        finally:
            counts.open -= opened
            counts.open_s += (min(time.monotonic(), end_s) - begin_s) * opened


def allowed_and_found(name: str, limit: float, counts: Counts, seconds: float) -> tuple[float, float]:
    """What the limit allows in so long, and what was let through."""
    match name:
        case "requests_per_s":
            return limit * (seconds + 1), counts.requests
        case "prompt_tokens_per_minute":
            return limit / 60 * (seconds + 1), counts.prompt_tokens
        case "output_tokens_per_minute":
            return limit / 60 * (seconds + 1), counts.output_tokens
        case _:
            return limit, counts.open_s / seconds


async def run(args: argparse.Namespace, prompts: Sequence[str]) -> dict[str, tuple[float, float, Counts]]:
    results = {}
    with tempfile.TemporaryDirectory() as directory:
        tenants = Path(directory) / "tenants.yaml"
        tenants.write_text(json.dumps({_tenant(name): {name: limit} for name, limit in LIMITS.items()}))
        overrides = [f"tenants_file={tenants}", f"cluster.routers={args.routers}"]
        async with cluster(args.config, overrides) as address:
            for name, limit in LIMITS.items():
                max_tokens = LONG_ANSWER if name in ("output_tokens_per_minute", "max_concurrent") else SHORT_ANSWER
                counts = await flood(address, _tenant(name), max_tokens, prompts, args.seconds)
                results[name] = (*allowed_and_found(name, limit, counts, args.seconds), counts)
                print(name, results[name], flush=True)
    return results


def _tenant(limit: str) -> str:
    return limit.replace("_", "-")


def markdown(results: dict[str, tuple[float, float, Counts]]) -> str:
    lines = ["| limit | allowed | let through | ratio | refused | most at once |", "|---|---:|---:|---:|---:|---:|"]
    for name, (allowed, found, counts) in results.items():
        lines.append(
            f"| `{name}: {LIMITS[name]:g}` | {allowed:.1f} | {found:.1f} | {found / allowed:.3f} | {counts.refused}"
            f" | {counts.most_open} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/single.yaml")
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--routers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--output", type=Path, default=Path("runs/limits"))
    args = parser.parse_args()
    prompts = [one.prompt for one in corpus_prompts(args.corpus, 12)]
    results = asyncio.run(run(args, prompts))
    figures = {"ratios": {name: found / allowed for name, (allowed, found, _) in results.items()}}
    tell(args.output, markdown(results), figures)


if __name__ == "__main__":
    main()
