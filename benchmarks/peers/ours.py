"""Our cluster, through its gRPC client: it streams, where the peers answer in one piece."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import metadata

from benchmarks.peers.contract import Bench
from polydraft.client import AsyncClient
from polydraft.commands.bench_load import Answer, ask
from polydraft.commands.bench_stats import Record
from polydraft.commands.child_cluster import cluster
from polydraft.commands.common import NamedPrompt
from polydraft.options import GenerateOptions


@dataclass(frozen=True, slots=True)
class Ours:
    """The whole cluster with all its drafters."""

    name: str
    drafted: bool
    """Whether requests use the drafters."""
    settings: tuple[str, ...] = ()
    """Of the configuration, as KEY=VALUE."""
    max_concurrency: int = 8
    one_language: bool = False

    def missing(self, bench: Bench) -> str:
        return ""

    def version(self, bench: Bench) -> str:
        return f"polydraft {metadata.version('polydraft')}"

    @asynccontextmanager
    async def start(self, bench: Bench, threads: int, language: str) -> AsyncIterator[Answer]:
        overrides = [f"target.num_threads={threads}", "target.dtype=bfloat16", *self.settings, *bench.overrides]
        options = GenerateOptions(max_tokens=bench.max_tokens)
        async with cluster(str(bench.config), overrides) as address, AsyncClient(address) as client:

            async def answer(question: NamedPrompt, lap: int) -> Record:
                return await ask(client, question, options, seed=lap, drafted=self.drafted)

            yield answer
