"""What the OpenAI API costs beside gRPC: the same questions, streamed one at a time by either, in turns.

python -m benchmarks.http_front [--rounds 5] [--config configs/single.yaml] [--output runs/http_front]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from benchmarks.prompts import corpus_prompts
from benchmarks.results import tell
from polydraft.answers import Chunk
from polydraft.client import AsyncClient
from polydraft.commands.bench_stats import ci95_of_median
from polydraft.commands.child_cluster import cluster_with_http

MAX_TOKENS = 64
Times = tuple[float, float]
"""Seconds to the first text, and to the end."""


async def by_grpc(client: AsyncClient, prompt: str) -> tuple[str, Times]:
    """The answer's text and times."""
    begin, first_s, pieces = time.perf_counter(), 0.0, []
    async for event in client.stream(prompt, max_tokens=MAX_TOKENS):
        if isinstance(event, Chunk) and event.text:
            first_s = first_s or time.perf_counter() - begin
            pieces.append(event.text)
    return "".join(pieces), (first_s, time.perf_counter() - begin)


async def by_http(session: aiohttp.ClientSession, url: str, prompt: str) -> tuple[str, Times]:
    """The answer's text and times."""
    begin, first_s, pieces = time.perf_counter(), 0.0, []
    body = {"model": "target", "prompt": prompt, "max_tokens": MAX_TOKENS, "temperature": 0, "stream": True}
    async with session.post(f"{url}/v1/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.content:
            if line.startswith(b"data: {") and (text := json.loads(line[6:])["choices"][0]["text"]):
                first_s = first_s or time.perf_counter() - begin
                pieces.append(text)
    return "".join(pieces), (first_s, time.perf_counter() - begin)


async def measure(args: argparse.Namespace, prompts: Sequence[str]) -> list[tuple[Times, Times]]:
    """Of each question: gRPC's times and HTTP's. RuntimeError if their answers differ."""
    found: list[tuple[Times, Times]] = []
    async with (
        cluster_with_http(args.config, ["cluster.http_port=0", *args.set]) as addresses,
        AsyncClient(addresses["grpc"]) as client,
        aiohttp.ClientSession() as session,
    ):
        for number in range(args.rounds + 1):
            for prompt in prompts:
                if number % 2:
                    one, grpc_s = await by_grpc(client, prompt)
                    other, http_s = await by_http(session, addresses["http"], prompt)
                else:
                    other, http_s = await by_http(session, addresses["http"], prompt)
                    one, grpc_s = await by_grpc(client, prompt)
                if one != other:
                    raise RuntimeError(f"{prompt!r}: gRPC said {one!r}, HTTP {other!r}")
                if number > 0:  # the first round warms up
                    found.append((grpc_s, http_s))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/single.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("runs/http_front"))
    args = parser.parse_args()
    prompts = [one.prompt for one in corpus_prompts(args.corpus, 4)]
    found = asyncio.run(measure(args, prompts))
    lines = [
        f"{len(found)} answers by each",
        "",
        "| | gRPC, ms | HTTP, ms | more, ms (95 % of the median) |",
        "|---|---:|---:|---:|",
    ]
    for place, what in enumerate(("to the first text", "to the end")):
        grpc_ms, http_ms = ([1_000 * times[side][place] for times in found] for side in (0, 1))
        more_ms = [http - grpc for grpc, http in zip(grpc_ms, http_ms, strict=True)]
        low, high = ci95_of_median(more_ms, random.Random(7))
        medians = [statistics.median(some) for some in (grpc_ms, http_ms, more_ms)]
        lines.append(f"| {what} | {medians[0]:.1f} | {medians[1]:.1f} | {medians[2]:.1f} ({low:.1f} to {high:.1f}) |")
    tell(args.output, "\n".join(lines), {"times_s": found})


if __name__ == "__main__":
    main()
