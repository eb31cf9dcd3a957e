"""transformers' `generate`, in a child process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path

from benchmarks.peers.contract import Bench, record
from benchmarks.peers.export import export_drafter
from polydraft.commands.bench_load import Answer
from polydraft.commands.bench_stats import Record
from polydraft.commands.common import NamedPrompt

GATHER_S = 0.001
"""How long a batch waits for more prompts: those that wait for the same batch's end come back together."""
STOP_TIMEOUT_S = 30


class Drafting(Enum):
    """How `generate` drafts."""

    NONE = "none"
    ASSISTED = "assistant_model"
    LOOKUP = "prompt_lookup_num_tokens"


@dataclass(frozen=True, slots=True)
class Transformers:
    """With one kind of drafting. It drafts for one prompt at a time only; plain, it is given whole batches."""

    name: str
    drafting: Drafting
    one_language: bool = False

    @property
    def max_concurrency(self) -> int:
        return 8 if self.drafting is Drafting.NONE else 1

    def missing(self, bench: Bench) -> str:
        return ""

    def version(self, bench: Bench) -> str:
        return f"transformers {metadata.version('transformers')}, torch {metadata.version('torch')}"

    @asynccontextmanager
    async def start(self, bench: Bench, threads: int, language: str) -> AsyncIterator[Answer]:
        command = [sys.executable, "-m", "benchmarks.peers.transformers_worker", str(bench.target)]
        command += ["--threads", str(threads), "--max-tokens", str(bench.max_tokens)]
        command += ["--draft-tokens", str(bench.num_draft_tokens), *_drafting_flags(bench, self.drafting)]
        log = bench.work / "logs" / f"{self.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as errors:
            pipe = asyncio.subprocess.PIPE
            child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=errors)
        worker = _Worker(child, log)
        batches = asyncio.create_task(worker.serve(bench, self.max_concurrency))
        try:

            async def answer(question: NamedPrompt, lap: int) -> Record:
                begin_s = time.perf_counter()
                return record(question, await worker.ask(question), begin_s, bench)

            yield answer
        finally:
            batches.cancel()
            await worker.stop()


class _Worker:
    """Gathers the prompts that wait into batches."""

    def __init__(self, child: asyncio.subprocess.Process, log: Path) -> None:
        self._child = child
        self._log = log
        self._waiting: list[tuple[NamedPrompt, asyncio.Future[list[int]]]] = []
        self._more = asyncio.Event()

    async def ask(self, question: NamedPrompt) -> list[int]:
        answer: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        self._more.set()
        return await answer

    async def serve(self, bench: Bench, max_batch: int) -> None:
        """One batch after the other, until cancelled."""
        await self._reply()  # it is ready
        while True:
            await self._more.wait()
            await asyncio.sleep(GATHER_S)
            batch, self._waiting = self._waiting[:max_batch], self._waiting[max_batch:]
            if not self._waiting:
                self._more.clear()
            try:
                answers = await self._generate(bench, [question for question, _ in batch])
            except RuntimeError as error:
                for _, future in batch:
                    future.set_exception(error)
                return
            for (_, future), ids in zip(batch, answers, strict=True):
                future.set_result(ids)

    async def _generate(self, bench: Bench, questions: Sequence[NamedPrompt]) -> list[list[int]]:
        request = {
            "prompts": [list(bench.prompt_ids[question.id]) for question in questions],
            "language": questions[0].language,
        }
        assert self._child.stdin is not None, "started with a pipe"
        self._child.stdin.write(json.dumps(request).encode() + b"\n")
        line = await self._reply()
        if not line:
            raise RuntimeError(f"transformers ended; see {self._log}")
        answers: list[list[int]] = json.loads(line)["answers"]
        return answers

    async def _reply(self) -> bytes:
        """The next line; b"" when there will be none."""
        assert self._child.stdout is not None, "started with a pipe"
        return await self._child.stdout.readline()

    async def stop(self) -> None:
        assert self._child.stdin is not None, "started with a pipe"
        self._child.stdin.close()  # its loop ends with its input
        try:
            await asyncio.wait_for(self._child.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()
            await self._child.wait()


def _drafting_flags(bench: Bench, drafting: Drafting) -> list[str]:
    if drafting is Drafting.LOOKUP:
        return ["--lookup"]
    if drafting is Drafting.NONE:
        return []
    flags = []
    for language, drafter in bench.drafters.items():
        plain = export_drafter(drafter, bench.target, bench.work / "models" / language)
        flags += ["--assistant", f"{language}={plain}"]
    return flags
