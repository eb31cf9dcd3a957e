"""Drafts by a small language model of one language: chains of its own coupled choices.

A session's cache holds its committed tokens as far as they were seen. What a verdict adds is fed together with the next
block's first step, so that a block of n tokens takes n passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from polydraft_kernels.noise import hash_ids
from torch import Tensor

from engine.drafters.base import DraftLaw, DraftSession, DraftVerdict, DraftWork, Placement
from engine.drafters.checkpoint import DrafterCheckpoint, DrafterManifest, load_checkpoint
from engine.drafters.config import DrafterConfig
from engine.drafters.coupling import coupled_choice
from engine.drafters.lean_llama import LeanLlama
from engine.dtypes import best_drafter_dtype
from engine.sampling import SamplingParams
from engine.tree import TokenTree

# Shape letters: B chains that still grow, V tokens the drafter may propose


@dataclass(slots=True)
class _Session:
    sampling: SamplingParams
    slot: int
    rows: list[int]
    """Embedding rows of the prompt and the committed tokens."""
    num_cached: int = 0
    """Leading rows whose keys and values are in the slot."""
    drafted: list[int] = field(default_factory=list)
    """Rows in the slot behind them, from the last proposal."""


@dataclass(slots=True)
class _Chain:
    """A block being drafted."""

    session: _Session
    max_nodes: int
    rows: list[int] = field(default_factory=list)
    confidence: float = 1.0
    """Product of the drafter's top probabilities."""
    is_done: bool = False

    @property
    def next_position(self) -> int:
        """Index in the sequence of the token to be drafted."""
        return len(self.session.rows) + len(self.rows)

    def pending(self) -> tuple[int, list[int]]:
        """Position and rows that must run before the next token: the last drafted one, or all not seen yet."""
        if self.rows:
            return self.next_position - 1, self.rows[-1:]
        # The last row runs again if nothing is new: its logits are not kept.
        start = min(self.session.num_cached, len(self.session.rows) - 1)
        return start, self.session.rows[start:]


class LMDrafter:
    """A trained drafter; see `Drafter` for the order of calls."""

    placement = Placement.TIER
    law = DraftLaw.NONE

    def __init__(
        self,
        checkpoint: DrafterCheckpoint,
        *,
        vocab_size: int,
        eos_token_ids: Sequence[int] = (),
        max_nodes: int = 16,
        min_confidence: float = 0.0,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        self.manifest: DrafterManifest = checkpoint.manifest
        self._model = LeanLlama(checkpoint, dtype, device)
        self._row_of_token = checkpoint.row_of_token(vocab_size)
        self._token_ids = checkpoint.token_ids[: checkpoint.manifest.num_head_tokens]
        self._hashed_ids_V = hash_ids(np.array(self._token_ids, dtype=np.int64))
        self._eos_rows = frozenset(self._row_of_token[token] for token in eos_token_ids)
        self._max_nodes = max_nodes
        self._min_confidence = min_confidence
        self._sessions: dict[int, _Session] = {}

    @classmethod
    def from_config(cls, config: DrafterConfig) -> LMDrafter:
        if config.model is None:
            raise ValueError("drafting method 'lm' needs a model: give the directory of a trained drafter")
        checkpoint = load_checkpoint(config.model)
        return cls(
            checkpoint,
            vocab_size=config.vocab_size,
            eos_token_ids=config.eos_token_ids,
            max_nodes=config.max_nodes,
            min_confidence=config.min_confidence,
            dtype=resolve_dtype(config.dtype, config.device),
            device=config.device,
        )

    def open(self, sessions: Sequence[DraftSession]) -> None:
        for opened in sessions:
            session = _Session(opened.sampling, self._model.cache.allocate(), self._rows(opened.token_ids))
            self._sessions[opened.id] = session
            num_prefilled = len(session.rows) - 1
            if 0 < num_prefilled < self._model.shape.context_length:
                self._model.prefill(session.slot, 0, session.rows[:-1])
                session.num_cached = num_prefilled

    @torch.inference_mode()
    def propose(self, work: Sequence[DraftWork]) -> list[TokenTree]:
        chains = [self._begin(item) for item in work]
        while growing := [chain for chain in chains if not chain.is_done]:
            pending = [chain.pending() for chain in growing]
            logits_BV = self._model.next_logits(
                [chain.session.slot for chain in growing],
                [start for start, _ in pending],
                [rows for _, rows in pending],
            )
            self._extend(growing, logits_BV)
        return [self._finish(chain) for chain in chains]

    def observe(self, verdicts: Sequence[DraftVerdict]) -> None:
        for verdict in verdicts:
            session = self._sessions[verdict.session_id]
            committed = self._rows(verdict.token_ids)
            session.num_cached += _num_common(session.drafted, committed)
            session.rows += committed
            session.drafted = []

    def close(self, session_ids: Sequence[int]) -> None:
        for session_id in session_ids:
            session = self._sessions.pop(session_id, None)
            if session is not None:
                self._model.cache.release(session.slot)

    def _begin(self, item: DraftWork) -> _Chain:
        session = self._sessions[item.session_id]
        room = self._model.shape.context_length - len(session.rows)
        max_nodes = min(item.max_nodes, self._max_nodes, room) if session.rows else 0
        return _Chain(session, max_nodes, is_done=max_nodes <= 0)

    def _extend(self, chains: Sequence[_Chain], logits_BV: Tensor) -> None:
        """Append the next token to each chain and say which are complete."""
        best = logits_BV.argmax(dim=1).tolist()
        confidences = torch.softmax(logits_BV, dim=1).amax(dim=1).tolist() if self._min_confidence > 0.0 else None
        for index, chain in enumerate(chains):
            sampling = chain.session.sampling
            if sampling.is_greedy:
                row = best[index]
            else:
                row = coupled_choice(logits_BV[index], sampling, chain.next_position, self._hashed_ids_V)
            chain.rows.append(row)
            if confidences is not None:
                chain.confidence *= confidences[index]
            chain.is_done = (
                len(chain.rows) == chain.max_nodes or row in self._eos_rows or chain.confidence < self._min_confidence
            )

    def _finish(self, chain: _Chain) -> TokenTree:
        session = chain.session
        session.drafted = []
        if chain.rows:
            session.num_cached = len(session.rows)
            session.drafted = chain.rows[:-1]
        return TokenTree.chain([self._token_ids[row] for row in chain.rows])

    def _rows(self, token_ids: Sequence[int]) -> list[int]:
        return [self._row_of_token[token] for token in token_ids]


def resolve_dtype(name: str, device: str) -> torch.dtype:
    """The dtype of that name; ValueError if there is none."""
    named = {"float32": torch.float32, "bfloat16": torch.bfloat16, "auto": best_drafter_dtype(torch.device(device))}
    if name not in named:
        raise ValueError(f"unknown dtype {name!r}; use auto, float32 or bfloat16")
    return named[name]


def _num_common(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the common prefix."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))
