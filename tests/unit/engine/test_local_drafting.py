"""Drafters in the target's step: the same text, and each knows the sequences it drafts for and no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from engine.drafters import DrafterConfig, create_drafter
from engine.drafters.base import DraftSession
from engine.drafters.ngram import NGramDrafter
from engine.engine import Engine, EngineConfig
from engine.local import generate
from engine.model import TargetModel
from engine.scheduler import SchedulerConfig
from engine.session import LocalDrafting
from engine.verify.verifiers import VERIFIERS
from tests.fakes_drafter import write_tiny_drafter
from tests.tiny_targets import MAX_CONTEXT, VOCAB_SIZE
from tests.unit.engine.conftest import make_requests

NGRAM, LM, PLAIN = LocalDrafting("ngram", 4), LocalDrafting("lm", 5), LocalDrafting()


class CountingDrafter(NGramDrafter):
    """Notes whom it knows."""

    def __init__(self) -> None:
        super().__init__([1, 2], max_nodes=8)
        self.met: list[int] = []
        self.known: set[int] = set()

    def open(self, sessions: Sequence[DraftSession]) -> None:
        super().open(sessions)
        self.met += [session.id for session in sessions]
        self.known |= {session.id for session in sessions}

    def close(self, session_ids: Sequence[int]) -> None:
        super().close(session_ids)
        self.known -= set(session_ids)


def engine_with(target: TargetModel, directory: Path, num_pages: int = 64) -> tuple[Engine, CountingDrafter]:
    write_tiny_drafter(directory, vocab_size=VOCAB_SIZE)
    counting = CountingDrafter()
    scheduler = SchedulerConfig(draft_deadline_s=0.0, max_context=MAX_CONTEXT)
    config = EngineConfig(num_pages=num_pages, scheduler=scheduler, measures_drafts=False)
    lm = create_drafter(DrafterConfig("lm", VOCAB_SIZE, model=directory, min_confidence=0.0, dtype="float32"))
    return Engine(target, VERIFIERS["coupled"], config, {"lm": lm, "ngram": counting}), counting


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("num_pages", [64, 12])
def test_all_kinds_side_by_side_write_what_plain_decoding_writes(
    target: TargetModel, tmp_path: Path, temperature: float, num_pages: int
) -> None:
    requests = make_requests(6, temperature, local=PLAIN)
    engine, counting = engine_with(target, tmp_path, num_pages)
    expected = generate(engine, requests)

    mixed = [replace(r, local=(LM, NGRAM, PLAIN)[i % 3]) for i, r in enumerate(requests)]
    found = generate(engine, mixed)

    assert {i: a.token_ids for i, a in found.items()} == {i: a.token_ids for i, a in expected.items()}
    assert all(found[r.session_id].num_drafted > 0 for r in mixed if r.local is LM)
    assert set(counting.met) == {r.session_id for r in mixed if r.local is NGRAM}
    assert not counting.known


def test_a_sequence_that_changes_its_drafter_is_met_where_it_stands(target: TargetModel, tmp_path: Path) -> None:
    (request,) = make_requests(1, max_tokens=40, local=PLAIN)
    engine, counting = engine_with(target, tmp_path)
    expected = generate(engine, [request])[request.session_id].token_ids

    engine.open(replace(request, local=NGRAM))
    found: list[int] = []
    num_drafted_since = 0
    while engine.num_sessions:
        outcomes, _ = engine.step()
        found += [token for outcome in outcomes for token in outcome.token_ids]
        if len(found) >= 10:
            engine.draft_locally(request.session_id, LM)
            num_drafted_since += 0 if counting.known else outcomes[0].num_drafted

    assert found == expected
    assert counting.met == [request.session_id]
    assert num_drafted_since > 0
