"""A tiny target, an engine over it, and requests."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from engine.batch import WorkItem, slots_of
from engine.drafters.base import DraftLaw, DraftSession, DraftVerdict, DraftWork, Placement
from engine.engine import Engine, EngineConfig
from engine.model import TargetModel, load_target
from engine.sampling import SamplingParams
from engine.scheduler import SchedulerConfig
from engine.session import LocalDrafting, OpenRequest
from engine.tree import TokenTree
from engine.verify.verifiers import VERIFIERS
from tests.tiny_targets import MAX_CONTEXT, VOCAB_SIZE, write_tiny_target


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> TargetModel:
    directory: Path = write_tiny_target(tmp_path_factory.mktemp("target"))
    return load_target(directory, torch.float32, torch.device("cpu"))


MakeEngine = Callable[..., Engine]


@pytest.fixture
def make_engine(target: TargetModel) -> MakeEngine:
    def make(num_pages: int = 64, prefill_chunk: int = 64, max_rows: int = 256, prefix_sharing: bool = True) -> Engine:
        scheduler = SchedulerConfig(
            max_rows=max_rows,
            prefill_chunk=prefill_chunk,
            draft_deadline_s=0.0,
            max_context=MAX_CONTEXT,
            prefix_sharing=prefix_sharing,
        )
        return Engine(target, VERIFIERS["coupled"], EngineConfig(num_pages=num_pages, scheduler=scheduler))

    return make


def make_requests(
    count: int, temperature: float = 0.0, max_tokens: int = 24, local: LocalDrafting | None = None
) -> list[OpenRequest]:
    """Prompts of unlike length and seeds of their own."""
    rng = random.Random(7)
    requests = []
    for session_id in range(1, count + 1):
        prompt = tuple(rng.randrange(3, VOCAB_SIZE) for _ in range(rng.randrange(1, 40)))
        sampling = SamplingParams(temperature=temperature, seed=rng.getrandbits(64))
        requests.append(OpenRequest(session_id, prompt, len(prompt), sampling, max_tokens, local=local))
    return requests


def committed_kv(engine: Engine, session_id: int) -> list[torch.Tensor]:
    """Keys and values of a running sequence's committed tokens, layer by layer."""
    sequence = engine.scheduler.sequences[session_id]
    slots = torch.from_numpy(slots_of(sequence.pages, engine.config.page_size, sequence.num_cached))
    return [half for layer in range(len(engine.target.kv_layers)) for half in engine.executor.cache.read(layer, slots)]


def last_logits(engine: Engine, session_id: int) -> torch.Tensor:
    """Logits of a running sequence after the last token whose KV is there: read once more over the KV before it."""
    sequence = engine.scheduler.sequences[session_id]
    last = sequence.num_cached - 1
    again = WorkItem(sequence.token_ids[last : last + 1], last, sequence.pages, TokenTree(), wants_logits=True)
    return engine.target.forward(engine.target.pack([again], engine.executor.cache, engine.executor.min_rows))


class KnowingDrafter:
    """Knows the answers and spoils some: right chains, wrong chains, trees, empty blocks, tokens past the end."""

    placement = Placement.TIER
    law = DraftLaw.NONE

    def __init__(self, answers: Mapping[int, Sequence[int]], share_right: float) -> None:
        self._answers = answers
        self._share_right = share_right
        self._rng = random.Random(3)
        self._lengths: dict[int, int] = {}

    def open(self, sessions: Sequence[DraftSession]) -> None:
        self._lengths |= {session.id: 0 for session in sessions}

    def observe(self, verdicts: Sequence[DraftVerdict]) -> None:
        for verdict in verdicts:
            self._lengths[verdict.session_id] += len(verdict.token_ids)

    def prepare(self) -> bool:
        return False

    def close(self, session_ids: Sequence[int]) -> None:
        for session_id in session_ids:
            self._lengths.pop(session_id, None)

    def propose(self, work: Sequence[DraftWork]) -> list[TokenTree]:
        return [self._tree(item) for item in work]

    def _tree(self, item: DraftWork) -> TokenTree:
        start = self._lengths[item.session_id]
        coming = [*self._answers[item.session_id][start:], 1, 5, 5, 5][: item.max_nodes]
        tokens = [t if self._rng.random() < self._share_right else self._rng.randrange(VOCAB_SIZE) for t in coming]
        kind = self._rng.randrange(4)
        if kind == 0:
            return TokenTree()
        if kind == 1 and len(tokens) >= 3:
            # The right branch comes second, and one sibling is there twice.
            wrong = (tokens[0] + 1) % VOCAB_SIZE
            return TokenTree((wrong, tokens[0], tokens[0], tokens[1], tokens[2]), (-1, -1, -1, 1, 3), (0, 1, 2, 0, 0))
        return TokenTree.chain(tokens)
