"""What authentication, limits and TLS cost: tokens/s with all of them over tokens/s without, at eight streams.

    python -m benchmarks.overhead [--pairs 15] [--phase-s 6] [--streams 8] [--output runs/overhead]

Two clusters of the same configuration are up: one open, one whose caller has a key and limits that it stays below, with
TLS in front and mutual TLS between the tiers. They answer the same questions in alternating phases, one at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import grpc
import trustme

from benchmarks.certificates import write_certificate
from benchmarks.prompts import corpus_prompts
from benchmarks.results import tell
from cluster.keys import hash_key, new_key
from polydraft.client import AsyncClient
from polydraft.commands.bench_load import ask, closed_loop
from polydraft.commands.bench_stats import Record, ci95_of_median
from polydraft.commands.child_cluster import cluster
from polydraft.commands.common import NamedPrompt
from polydraft.options import GenerateOptions

OPTIONS = GenerateOptions(max_tokens=64)
TENANT = "acme"
ABUNDANT = {
    "requests_per_s": 1_000,
    "prompt_tokens_per_minute": 10_000_000,
    "output_tokens_per_minute": 10_000_000,
    "max_concurrent": 64,
}


def guarded(directory: Path, key: str) -> list[str]:
    """What turns everything on, as overrides of a configuration; certificates are written to `directory`."""
    tenants = directory / "tenants.yaml"
    tenants.write_text(json.dumps({TENANT: {"keys": [hash_key(key)], **ABUNDANT}}))
    authority = trustme.CA()
    front = write_certificate(directory / "front", authority, "127.0.0.1")
    front["client_authority"] = front.pop("authority")
    tiers = write_certificate(directory / "tiers", authority, "polydraft")
    return [f"tenants_file={tenants}", f"tls={json.dumps({'front': front, 'tiers': tiers})}"]


def credentials(directory: Path) -> grpc.ChannelCredentials:
    """Of a caller who knows the front's authority and is known to it."""
    parts = ((directory / "front" / f"{name}.pem").read_bytes() for name in ("authority", "key", "certificate"))
    return grpc.ssl_channel_credentials(*parts)


async def measure(args: argparse.Namespace, questions: Sequence[NamedPrompt]) -> list[tuple[float, float]]:
    """Tokens/s of each pair of phases: guarded, open."""
    key = new_key()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        overrides = [*args.set, *guarded(directory, key)]
        async with cluster(args.config, args.set) as plain, cluster(args.config, overrides) as safe:
            open_client = AsyncClient(plain)
            safe_client = AsyncClient(safe, TENANT, key=key, credentials=credentials(directory))
            async with open_client, safe_client:
                pairs = []
                for number in range(args.pairs + 1):
                    sides = [safe_client, open_client]
                    order = sides if number % 2 else sides[::-1]
                    speeds = {id(client): await _tokens_per_s(client, questions, args) for client in order}
                    pairs.append((speeds[id(safe_client)], speeds[id(open_client)]))
                    what = "warm-up" if number == 0 else f"pair {number} of {args.pairs}"
                    print(f"{what}: guarded {pairs[-1][0]:.1f}, open {pairs[-1][1]:.1f}", file=sys.stderr, flush=True)
                return pairs[1:]


async def _tokens_per_s(client: AsyncClient, questions: Sequence[NamedPrompt], args: argparse.Namespace) -> float:
    async def answer(question: NamedPrompt, lap: int) -> Record:
        return await ask(client, question, OPTIONS, seed=7 + lap, drafted=True)

    return (await closed_loop(answer, questions, args.streams, args.phase_s, drafted=True)).tokens_per_s()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/single.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--phase-s", type=float, default=6.0)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--output", type=Path, default=Path("runs/overhead"))
    args = parser.parse_args()
    questions = [NamedPrompt(one.id, one.prompt, one.language) for one in corpus_prompts(args.corpus, 12)]
    random.Random(7).shuffle(questions)  # mixes the languages
    pairs = asyncio.run(measure(args, questions))
    costs = [1 - safe / plain for safe, plain in pairs]
    low, high = ci95_of_median(costs, random.Random(7))
    safe, plain = (statistics.median(side) for side in zip(*pairs, strict=True))
    table = (
        f"{args.streams} streams, {len(pairs)} pairs: guarded {safe:.0f} tokens/s, open {plain:.0f}; "
        f"cost {statistics.median(costs):.1%} (95 % of the median: {low:.1%} to {high:.1%})"
    )
    tell(args.output, table, {"pairs": pairs})


if __name__ == "__main__":
    main()
