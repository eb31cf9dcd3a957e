"""vLLM's OpenAI server on a CPU."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum

from benchmarks.peers.contract import Bench, record
from benchmarks.peers.export import export_drafter
from benchmarks.peers.http_server import http_server, post
from benchmarks.peers.install import VLLM_PACKAGE, has_vllm, vllm_python
from polydraft.commands.bench_load import Answer
from polydraft.commands.bench_stats import Record
from polydraft.commands.child_cluster import free_port
from polydraft.commands.common import NamedPrompt

MAX_SEQUENCES = 16
CONTEXT_LENGTH = 512


class Method(Enum):
    """How vLLM drafts."""

    NONE = ""
    DRAFT_MODEL = "draft_model"
    NGRAM = "ngram"


@dataclass(frozen=True, slots=True)
class Vllm:
    """With one method of drafting."""

    name: str
    method: Method
    max_concurrency: int = 8

    @property
    def one_language(self) -> bool:
        return self.method is Method.DRAFT_MODEL

    def missing(self, bench: Bench) -> str:
        return "" if has_vllm(bench.work) else str(vllm_python(bench.work))

    def version(self, bench: Bench) -> str:
        return VLLM_PACKAGE

    @asynccontextmanager
    async def start(self, bench: Bench, threads: int, language: str) -> AsyncIterator[Answer]:
        port = free_port()
        # The `vllm` script itself fails in this package.
        command = [str(vllm_python(bench.work)), "-m", "vllm.entrypoints.openai.api_server"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--uvicorn-log-level", "warning"]
        command += ["--model", str(bench.target.resolve()), "--served-model-name", "target", "--dtype", "bfloat16"]
        command += ["--max-model-len", str(CONTEXT_LENGTH), "--max-num-seqs", str(MAX_SEQUENCES)]
        command += ["--no-enable-prefix-caching"]  # we recycle prompts, real ones seldom come twice
        command += _speculation(bench, self.method, language)
        log = bench.work / "logs" / f"{self.name}.log"
        async with http_server(command, _environment(bench, threads), f"http://127.0.0.1:{port}", log) as session:

            async def answer(question: NamedPrompt, lap: int) -> Record:
                body = {
                    "model": "target",
                    "prompt": list(bench.prompt_ids[question.id]),
                    "max_tokens": bench.max_tokens,
                    "temperature": 0,
                    "return_token_ids": True,
                }
                begin_s = time.perf_counter()
                reply = await post(session, "/v1/completions", body)
                return record(question, _token_ids(reply), begin_s, bench)

            yield answer


def _speculation(bench: Bench, method: Method, language: str) -> list[str]:
    if method is Method.NONE:
        return []
    config: dict[str, object] = {"method": method.value, "num_speculative_tokens": bench.num_draft_tokens}
    if method is Method.DRAFT_MODEL:
        plain = export_drafter(bench.drafters[language], bench.target, bench.work / "models" / language)
        config["model"] = str(plain.resolve())
    else:
        config |= {"prompt_lookup_min": 2, "prompt_lookup_max": 4}
    return ["--speculative-config", json.dumps(config)]


def _environment(bench: Bench, threads: int) -> dict[str, str]:
    return {
        "HF_HUB_OFFLINE": "1",
        "NUMBA_NUM_THREADS": "1",  # the n-gram lookup uses one; on a busy machine waiting for a second takes long
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": "",  # ours has nothing for it
        "VLLM_CACHE_ROOT": str(bench.work.resolve() / "vllm-cache"),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }


def _token_ids(reply: dict[str, object]) -> list[int]:
    """The ids of the answer, as many as the server says it wrote."""
    choices, usage = reply["choices"], reply["usage"]
    assert isinstance(choices, list) and isinstance(usage, dict), reply
    ids: list[int] = choices[0]["token_ids"]
    assert len(ids) == usage["completion_tokens"], reply
    return ids
