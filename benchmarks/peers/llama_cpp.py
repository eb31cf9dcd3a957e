"""llama.cpp's server, in bf16 as converted by its own converter."""

from __future__ import annotations

import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.peers.contract import Bench, record
from benchmarks.peers.export import export_drafter, export_gguf
from benchmarks.peers.http_server import http_server, post
from benchmarks.peers.install import LLAMA_PACKAGE, llama_server
from polydraft.commands.bench_load import Answer
from polydraft.commands.bench_stats import Record
from polydraft.commands.child_cluster import free_port
from polydraft.commands.common import NamedPrompt

NUM_SLOTS = 8
CONTEXT_LENGTH = 512  # of a slot; the models know no more


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """Plain, or with a language's drafter."""

    name: str
    drafted: bool
    max_concurrency: int = NUM_SLOTS

    @property
    def one_language(self) -> bool:
        return self.drafted

    def missing(self, bench: Bench) -> str:
        server = llama_server(bench.work)
        return "" if server.is_file() else str(server)

    def version(self, bench: Bench) -> str:
        command = [str(llama_server(bench.work)), "--version"]
        said = subprocess.run(command, capture_output=True, text=True, check=True)
        return f"{LLAMA_PACKAGE}, {(said.stdout + said.stderr).splitlines()[0]}"

    @asynccontextmanager
    async def start(self, bench: Bench, threads: int, language: str) -> AsyncIterator[Answer]:
        port = free_port()
        command = [str(llama_server(bench.work)), "--host", "127.0.0.1", "--port", str(port)]
        command += ["--threads", str(threads), "--parallel", str(NUM_SLOTS)]
        command += ["--ctx-size", str(NUM_SLOTS * CONTEXT_LENGTH), *_models(bench, self.drafted, language)]
        log = bench.work / "logs" / f"{self.name}.log"
        async with http_server(command, {}, f"http://127.0.0.1:{port}", log) as session:

            async def answer(question: NamedPrompt, lap: int) -> Record:
                body = {
                    "prompt": list(bench.prompt_ids[question.id]),
                    "n_predict": bench.max_tokens,
                    "samplers": ["top_k"],  # the cheapest way to be greedy
                    "top_k": 1,
                    "cache_prompt": False,  # we recycle prompts, real ones seldom come twice
                    "return_tokens": True,
                }
                begin_s = time.perf_counter()
                reply = await post(session, "/completion", body)
                ids = reply["tokens"]
                assert isinstance(ids, list) and len(ids) == reply["tokens_predicted"], reply
                return record(question, ids, begin_s, bench)

            yield answer


def _models(bench: Bench, drafted: bool, language: str) -> list[str]:
    folder = bench.work / "models"
    flags = ["--model", str(export_gguf(bench.target, folder / "target.gguf", bench.work))]
    if drafted:
        plain = export_drafter(bench.drafters[language], bench.target, folder / language)
        flags += ["--spec-type", "draft-simple", "--spec-draft-n-max", str(bench.num_draft_tokens)]
        flags += ["--model-draft", str(export_gguf(plain, folder / f"{language}.gguf", bench.work))]
    return flags
