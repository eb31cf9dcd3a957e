"""A tiny target for drafters that draft with it, without an engine: it reads each sequence anew for each proposal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from engine.batch import WorkItem
from engine.checks import find_min_rows
from engine.drafters.base import Drafter, DraftSession, DraftVerdict, DraftWork, Scratch, UsesTarget
from engine.drafters.skip_file import ChosenSet, SkipFile
from engine.kv_cache import KVCache
from engine.model import TargetModel, load_target
from engine.pages import PageId
from engine.skipping import NOTHING, SkipSet
from engine.tree import TokenTree
from tests.fakes_drafter import CONTEXT
from tests.tiny_targets import write_tiny_target

_PAGES_EACH = 8
_PAGE_SIZE = 16
assert _PAGES_EACH * _PAGE_SIZE > CONTEXT


def write_skip_file(directory: Path, skip: SkipSet | None = None) -> Path:
    """For a tiny target."""
    path = directory / "layer_skip.json"
    SkipFile("tiny", 2, ChosenSet(SkipSet.of([1], [0]) if skip is None else skip)).write(path)
    return path


@dataclass(slots=True)
class LoneTarget:
    """A `TargetView` of sequences that it is told of."""

    target: TargetModel
    min_rows: int
    sequences: dict[int, list[int]] = field(default_factory=dict)

    @property
    def num_layers(self) -> int:
        return len(self.target.kv_layers)

    def skip_problem(self, skip: SkipSet) -> str | None:
        return self.target.sublayers.problem(skip)

    @contextmanager
    def scratch(self, num_tokens: Mapping[int, int]) -> Iterator[Scratch]:
        yield _LoneScratch(self, num_tokens)


class _LoneScratch:
    def __init__(self, lone: LoneTarget, num_tokens: Mapping[int, int]) -> None:
        self._lone, self._num_tokens = lone, num_tokens
        target, num_pages = lone.target, 1 + _PAGES_EACH * len(num_tokens)
        self._cache = KVCache(target.kv_layers, num_pages, _PAGE_SIZE, target.dtype, target.device)
        self._pages = {
            session_id: [PageId(page) for page in range(1 + place * _PAGES_EACH, 1 + (place + 1) * _PAGES_EACH)]
            for place, session_id in enumerate(num_tokens)
        }
        self._num_cached = dict.fromkeys(num_tokens, 0)
        for session_id in num_tokens:
            if self.room(session_id) > 0 and (before := lone.sequences[session_id][:-1]):
                self._read({session_id: before}, NOTHING)

    def room(self, session_id: int) -> int:
        tokens = self._lone.sequences[session_id]
        return min(self._num_tokens[session_id], CONTEXT - len(tokens)) if tokens else 0

    def read(self, token_ids: Mapping[int, Sequence[int]], skip: SkipSet) -> Tensor:
        return self._read(token_ids, skip)

    def _read(self, token_ids: Mapping[int, Sequence[int]], skip: SkipSet) -> Tensor:
        items = []
        for session_id, tokens in token_ids.items():
            start = self._num_cached[session_id]
            items.append(WorkItem(tokens, start, self._pages[session_id], TokenTree(), wants_logits=True))
            self._num_cached[session_id] += len(tokens)
        batch = self._lone.target.pack(items, self._cache, self._lone.min_rows)
        return self._lone.target.forward(batch, skip)


class WithTarget:
    """A drafter together with what it drafts with, as one that needs nothing."""

    def __init__(self, drafter: Drafter, target: LoneTarget) -> None:
        assert isinstance(drafter, UsesTarget)
        drafter.attach(target)
        self.placement, self.law = drafter.placement, drafter.law
        self._drafter: Drafter = drafter
        self._target = target

    def open(self, sessions: Sequence[DraftSession]) -> None:
        self._target.sequences |= {session.id: list(session.token_ids) for session in sessions}
        self._drafter.open(sessions)

    def propose(self, work: Sequence[DraftWork]) -> list[TokenTree]:
        return self._drafter.propose(work)

    def observe(self, verdicts: Sequence[DraftVerdict]) -> None:
        for verdict in verdicts:
            self._target.sequences[verdict.session_id] += verdict.token_ids
        self._drafter.observe(verdicts)

    def prepare(self) -> bool:
        return self._drafter.prepare()

    def close(self, session_ids: Sequence[int]) -> None:
        self._drafter.close(session_ids)
        for session_id in session_ids:
            self._target.sequences.pop(session_id, None)


def lone_target() -> LoneTarget:
    target, min_rows = _tiny_target()
    return LoneTarget(target, min_rows)


@cache
def _tiny_target() -> tuple[TargetModel, int]:
    with TemporaryDirectory() as directory:
        target = load_target(write_tiny_target(Path(directory)), torch.float32, torch.device("cpu"))
    return target, find_min_rows(target)
