"""The round without a cluster: one engine, its drafters, one thread, no messages."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from benchmarks.prompts import CorpusPrompt
from engine.drafters.base import DraftSession, DraftVerdict, DraftWork
from engine.drafters.config import DrafterConfig
from engine.drafters.lm import LMDrafter
from engine.engine import Engine, EngineConfig, StepOutcome
from engine.model import load_target
from engine.sampling import SamplingParams
from engine.scheduler import SchedulerConfig
from engine.session import LocalDrafting, OpenRequest
from engine.tree import TokenTree
from engine.verify.verifiers import VERIFIERS


@dataclass(frozen=True, slots=True)
class Timed:
    """One answer; times without prefill."""

    token_ids: tuple[int, ...]
    rounds: int
    total_s: float
    target_s: float
    """In the forward pass and verification."""
    draft_s: float


class InProcess:
    """Decodes one prompt at a time as the tiers would."""

    def __init__(
        self, models: Path, languages: Sequence[str], dtype: torch.dtype | None = None, draft_nodes: int = 5
    ) -> None:
        target = load_target(models / "target", dtype, torch.device("cpu"))
        self._engine = Engine(
            target, VERIFIERS["coupled"], EngineConfig(num_pages=256, scheduler=SchedulerConfig(max_context=512))
        )
        self._tokenizer = Tokenizer.from_file(str(models / "target" / "tokenizer.json"))
        eos = tuple(target.eos_ids)
        self._drafters = {
            language: LMDrafter.from_config(
                DrafterConfig("lm", target.vocab_size, eos, model=models / "drafters" / language)
            )
            for language in languages
        }
        self._draft_nodes = draft_nodes
        self._numbers = 0

    def answer(self, prompt: CorpusPrompt, sampling: SamplingParams, max_tokens: int, *, drafted: bool) -> Timed:
        """Decode to the end; drafts with the drafter of the prompt's language."""
        self._numbers += 1
        number, engine = self._numbers, self._engine
        ids = tuple(self._tokenizer.encode(prompt.prompt, add_special_tokens=False).ids)
        local = None if drafted else LocalDrafting()
        engine.open(OpenRequest(number, ids, len(ids), sampling, max_tokens, local=local, drafter=prompt.language))
        drafter = self._drafters[prompt.language] if drafted else None
        if drafter is not None:
            drafter.open([DraftSession(number, ids, sampling)])
        outcome = self._step()
        tokens = [*outcome.token_ids]
        rounds, target_s, draft_s = 0, 0.0, 0.0
        begin_s = time.perf_counter()
        while outcome.finish is None:
            if drafter is not None:
                started_s = time.perf_counter()
                drafter.observe([DraftVerdict(number, outcome.token_ids, outcome.num_accepted)])
                tree = TokenTree()
                if outcome.draft_nodes:
                    (tree,) = drafter.propose([DraftWork(number, min(outcome.draft_nodes, self._draft_nodes))])
                draft_s += time.perf_counter() - started_s
                engine.draft(number, outcome.length, outcome.hash, tree)
            started_s = time.perf_counter()
            outcome = self._step()
            target_s += time.perf_counter() - started_s
            tokens += outcome.token_ids
            rounds += 1
        total_s = time.perf_counter() - begin_s
        if drafter is not None:
            drafter.close([number])
        return Timed(tuple(tokens), rounds, total_s, target_s, draft_s)

    def _step(self) -> StepOutcome:
        """Step until something is committed: a prompt may take several chunks."""
        outcomes: list[StepOutcome] = []
        while not outcomes:
            outcomes, _ = self._engine.step()
        return outcomes[0]
