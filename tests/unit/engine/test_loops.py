"""The thread around the engine."""

from __future__ import annotations

import queue
from collections.abc import Sequence

import pytest

from engine.engine import Engine, StepOutcome
from engine.loop import EngineDied, EngineLoop
from engine.session import LocalDrafting
from tests.unit.engine.conftest import MakeEngine, make_requests

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
