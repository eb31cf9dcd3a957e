"""The threads around engine and drafter."""

from __future__ import annotations

import queue
from collections.abc import Sequence

import pytest

from engine.draft_loop import DraftedBlock, DraftLoop
from engine.drafters.base import DraftSession, DraftVerdict
from engine.engine import Engine, StepOutcome
from engine.hashing import EMPTY_HASH, extend_hash
from engine.loop import EngineDied, EngineLoop
from engine.sampling import SamplingParams
from engine.session import LocalDrafting
from tests.unit.engine.conftest import KnowingDrafter, MakeEngine, make_requests

WAIT_S = 60.0


def test_the_engine_thread_decodes_what_is_submitted(make_engine: MakeEngine) -> None:
    arrived: queue.Queue[StepOutcome] = queue.Queue()

    def hand_over(outcomes: Sequence[StepOutcome]) -> None:
        for outcome in outcomes:
            arrived.put(outcome)

    loop = EngineLoop(make_engine(), hand_over)
    (request,) = make_requests(1, max_tokens=5, local=LocalDrafting())
    loop.start()
    try:
        loop.submit(lambda engine: engine.open(request))
        tokens: list[int] = []
        while (outcome := arrived.get(timeout=WAIT_S)).finish is None:
            tokens += outcome.token_ids
    finally:
        loop.stop()

    assert len(tokens) + len(outcome.token_ids) <= 5
    loop.check_health()


def test_a_dead_engine_thread_is_told(make_engine: MakeEngine) -> None:
    ran: queue.Queue[bool] = queue.Queue()

    def fail(engine: Engine) -> None:
        ran.put(True)
        raise RuntimeError("a command failed")

    loop = EngineLoop(make_engine(), lambda outcomes: None)
    loop.start()
    loop.submit(fail)
    ran.get(timeout=WAIT_S)
    loop.stop()

    with pytest.raises(EngineDied):
        loop.check_health()


def test_blocks_are_labelled_with_the_sequence_they_build_on() -> None:
    arrived: queue.Queue[DraftedBlock] = queue.Queue()

    def hand_over(blocks: Sequence[DraftedBlock]) -> None:
        for block in blocks:
            arrived.put(block)

    loop = DraftLoop(KnowingDrafter({1: [8, 9, 10, 11]}, 1.0), hand_over)
    loop.start()
    try:
        loop.open(DraftSession(1, (5, 6), SamplingParams()), max_nodes=2)
        loop.observe(2, DraftVerdict(1, (8,), 0))
        block = arrived.get(timeout=WAIT_S)
        loop.observe(99, DraftVerdict(1, (9,), 0))  # out of step: closed, no block
        loop.observe(3, DraftVerdict(1, (9,), 0))
        loop.close(1)
    finally:
        loop.stop()

    assert (block.base_length, block.base_hash) == (3, extend_hash(EMPTY_HASH, (5, 6, 8)))
    assert arrived.empty()
    loop.check_health()
