"""A stream that breaks goes on at the next router: no gap, no repeat, the same text."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from polydraft import (
    AsyncClient,
    Chunk,
    Finished,
    InternalError,
    Overloaded,
    Started,
    TargetChanged,
    Unavailable,
    client,
)
from tests.fakes_server import NUMERICS_ID, FakeGeneration, Script, ServerThread, serving

PROMPT = b"Guten Morgen."
SCRIPT = Script(tuple(f"w{i} ".encode() for i in range(20)))
WHOLE = "".join(f"w{i} " for i in range(20))


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RESUME_DELAYS_S", (0.0, 0.0, 0.0))


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
@pytest.mark.parametrize("cuts", [[0], [1], [7], [20], [4, 4], [3, 0, 0, 5, 0]])
async def test_a_broken_answer_goes_on_without_gap_or_repeat(cuts: list[int | None], status: grpc.StatusCode) -> None:
    servicer = FakeGeneration({PROMPT: SCRIPT}, cuts=cuts.copy(), cut_status=status)
    with serving(servicer) as address:
        async with AsyncClient(address) as connection:
            events = [event async for event in connection.stream(PROMPT, seed=5)]

    chunks = [event for event in events if isinstance(event, Chunk)]
    assert "".join(chunk.text for chunk in chunks) == WHOLE
    assert [token for chunk in chunks for token in chunk.token_ids] == SCRIPT.token_ids
    assert sum(isinstance(event, Started) for event in events) == 1
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.completion_tokens == 20
    assert len(servicer.requests) == 1 + len(cuts)


async def test_resume_carries_tokens_seed_numerics_round_and_length_of_the_text() -> None:
    servicer = FakeGeneration({PROMPT: SCRIPT}, cuts=[7])
    with serving(servicer) as address:
        async with AsyncClient(address, tenant="acme") as connection:
            await connection.generate(PROMPT, max_tokens=18, time_budget_s=60)

    again = servicer.requests[1]
    assert list(again.resume.token_ids) == SCRIPT.token_ids[:7]
    assert (again.resume.effective_seed, again.resume.numerics_id, again.resume.next_round) == (77, NUMERICS_ID, 3)
    assert again.resume.text_bytes == len("".join(f"w{i} " for i in range(7)))
    assert (again.prompt, again.max_tokens) == (PROMPT, 18)
    assert 0 < again.time_budget_s < 60
    assert servicer.metadata[1]["polydraft-tenant"] == "acme"


async def test_a_character_split_by_the_break_arrives_whole() -> None:
    script = Script(("né".encode()[:2], "né".encode()[2:], b"!"))
    with serving(FakeGeneration({PROMPT: script}, cuts=[1])) as address:
        async with AsyncClient(address) as connection:
            answer = await connection.generate(PROMPT)

    assert answer.text == "né!"


async def test_other_numerics_after_the_break_end_the_answer() -> None:
    servicer = FakeGeneration({PROMPT: SCRIPT}, cuts=[4], numerics_ids=[NUMERICS_ID, "numerics-2"])
    with serving(servicer) as address:
        async with AsyncClient(address) as connection:
            with pytest.raises(TargetChanged):
                await connection.generate(PROMPT)


async def test_tries_end_when_no_token_comes_any_more() -> None:
    servicer = FakeGeneration({PROMPT: SCRIPT}, cuts=[4, 0, 0, 0, 0, 0])
    with serving(servicer) as address:
        async with AsyncClient(address) as connection:
            with pytest.raises(Unavailable):
                await connection.generate(PROMPT)

    assert len(servicer.requests) == 4


async def test_who_is_told_to_come_back_while_an_answer_is_broken_comes_back() -> None:
    servicer = FakeGeneration({PROMPT: SCRIPT}, cuts=[4], overloads=[None, 0.4])
    with serving(servicer) as address:
        async with AsyncClient(address) as connection:
            answer = await connection.generate(PROMPT)

    assert answer.text == WHOLE
    assert answer.timing.total_s > 0.4
    assert [len(request.resume.token_ids) for request in servicer.requests] == [0, 4, 4]


async def test_a_new_request_hears_when_to_come_back() -> None:
    with serving(FakeGeneration({PROMPT: SCRIPT}, overloads=[2.5])) as address:
        async with AsyncClient(address) as connection:
            with pytest.raises(Overloaded, match="full") as caught:
                await connection.generate(PROMPT)

    assert caught.value.retry_after_s == 2.5


async def test_a_gap_in_the_stream_is_an_error_not_a_text() -> None:
    with serving(FakeGeneration({PROMPT: SCRIPT}, skip_tokens=2)) as address:
        async with AsyncClient(address) as connection:
            with pytest.raises(InternalError, match="token 5 came where 3 was due"):
                await connection.generate(PROMPT)


async def test_a_server_that_stops_is_replaced_by_one_at_the_same_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RESUME_DELAYS_S", (0.1, 0.2, 0.5, 1.0, 2.0))
    first = FakeGeneration({PROMPT: SCRIPT}, hang_after=6)
    second = FakeGeneration({PROMPT: SCRIPT})
    server = ServerThread(first)
    text = ""
    async with AsyncClient(server.address) as connection:
        async for event in connection.stream(PROMPT):
            text += event.text if isinstance(event, Chunk) else ""
            if isinstance(event, Chunk) and event.first_token_index == 3:
                await asyncio.to_thread(server.stop)
                server = ServerThread(second, server.port)
    server.stop()

    assert text == WHOLE
    assert list(second.requests[0].resume.token_ids) == SCRIPT.token_ids[:6]
