"""What a system under measurement is to the benchmark, whoever made it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from polydraft.commands.bench_load import Answer
from polydraft.commands.bench_stats import Record
from polydraft.commands.common import NamedPrompt, PromptId


@dataclass(frozen=True, slots=True)
class Bench:
    """What all systems are given alike."""

    config: Path
    """Of our cluster."""
    overrides: Sequence[str]
    """Of values in it, as KEY=VALUE."""
    target: Path
    drafters: Mapping[str, Path]
    """By language, as we train them: trimmed."""
    work: Path
    """For installations, exported models and logs."""
    prompt_ids: Mapping[PromptId, Sequence[int]]
    """Peers get prompts as ids: what is written never depends on whose tokenizer it is."""
    eos_id: int
    max_tokens: int
    num_draft_tokens: int
    """Of the peers that draft. Ours decides by itself."""


class System(Protocol):
    """One way to serve the target."""

    @property
    def name(self) -> str: ...
    @property
    def max_concurrency(self) -> int: ...
    @property
    def one_language(self) -> bool:
        """Whether a process drafts for one language only, so that each language needs its own."""

    def missing(self, bench: Bench) -> str:
        """What is not installed, "" if nothing."""

    def version(self, bench: Bench) -> str: ...

    def start(self, bench: Bench, threads: int, language: str) -> AbstractAsyncContextManager[Answer]:
        """A process that answers inside the block. `language` matters only to a system of one language."""


def record(question: NamedPrompt, token_ids: Sequence[int], begin_s: float, bench: Bench) -> Record:
    """An answer that came as a whole, just now. EOS ends the text and is none of its tokens, as for our client."""
    ids = list(token_ids)
    kept = ids[: ids.index(bench.eos_id)] if bench.eos_id in ids else ids
    now_s = time.perf_counter()
    return Record(
        question=question.id,
        language=question.language,
        drafter="",
        drafted=False,
        seed=0,
        token_ids=tuple(kept),
        rounds=0,
        begin_s=begin_s,
        total_s=now_s - begin_s,
        arrivals_s=((now_s, len(kept)),),
    )
