"""The client against a real server: events, options, cancellation, and the synchronous form."""

from __future__ import annotations

import subprocess
import sys

import pytest

import polydraft
from benchmarks.tcp_proxy import proxy_to
from polydraft import AsyncClient, ChatMessage, Chunk, Client, Finished, FinishReason, InvalidRequest, Started, Usage
from tests.fakes_server import FakeGeneration, Script, serving

GREETING = Script((b"Good", b" morn", b"ing", b", my", b" friend", b"."))
PROMPT = b"Guten Morgen, mein Freund."


async def test_stream_gives_started_chunks_and_finished_in_order() -> None:
    with serving(FakeGeneration({PROMPT: GREETING})) as address:
        async with AsyncClient(address) as client:
            events = [event async for event in client.stream(PROMPT)]

    started, *chunks, finished = events
    assert isinstance(started, Started)
    assert (started.language, started.drafter, started.effective_seed) == ("de", "lm-de", 77)
    assert all(isinstance(chunk, Chunk) for chunk in chunks)
    assert [chunk.first_token_index for chunk in chunks if isinstance(chunk, Chunk)] == [0, 3]
    assert isinstance(finished, Finished)
    assert finished.finish_reason is FinishReason.EOS


async def test_generate_gathers_the_whole_answer() -> None:
    with serving(FakeGeneration({PROMPT: GREETING})) as address:
        async with AsyncClient(address) as client:
            answer = await client.generate(PROMPT.decode(), max_tokens=5)

    assert answer.text == "Good morning, my friend"
    assert answer.token_ids == (100, 101, 102, 103, 104)
    assert answer.finish_reason is FinishReason.LENGTH
    assert answer.usage == Usage(4, 5, cached_prompt_tokens=3)
    assert answer.timing.ttft_s is not None
    assert 0 < answer.timing.ttft_s <= answer.timing.total_s


async def test_a_distant_server_is_reached() -> None:
    with serving(FakeGeneration({PROMPT: GREETING})) as address:
        async with proxy_to(address, delay_s=0.2) as (_, far_address), AsyncClient(far_address) as client:
            assert (await client.generate(PROMPT)).text == "Good morning, my friend."


async def test_options_and_tenant_reach_the_server() -> None:
    servicer = FakeGeneration({PROMPT: GREETING})
    with serving(servicer) as address:
        async with AsyncClient(address, tenant="acme", key="s3cret") as client:
            await client.generate(
                PROMPT,
                language="fr",
                max_tokens=7,
                temperature=0.8,
                top_k=5,
                top_p=0.9,
                seed=2**63,
                stop=["\n\n", b"END"],
                time_budget_s=2.5,
                speculation="ngram",
                max_draft_tokens=4,
            )

    request = servicer.requests[0]
    assert (request.language, request.max_tokens, request.seed) == ("fr", 7, 2**63)
    assert (request.sampling.temperature, request.sampling.top_k, request.sampling.top_p) == (0.8, 5, 0.9)
    assert list(request.stop) == [b"\n\n", b"END"]
    assert (request.time_budget_s, request.speculation, request.max_draft_tokens) == (2.5, "ngram", 4)
    assert servicer.metadata[0]["polydraft-tenant"] == "acme"
    assert servicer.metadata[0]["polydraft-key"] == "s3cret"


async def test_absent_options_stay_absent_on_the_wire() -> None:
    servicer = FakeGeneration({PROMPT: GREETING})
    with serving(servicer) as address:
        async with AsyncClient(address) as client:
            await client.generate(PROMPT)

    request = servicer.requests[0]
    assert not any(request.HasField(name) for name in ("max_tokens", "seed", "max_draft_tokens", "resume"))
    assert not request.sampling.HasField("temperature")
    assert "polydraft-tenant" not in servicer.metadata[0]


async def test_chat_messages_are_sent_as_chat() -> None:
    servicer = FakeGeneration({b"": GREETING})  # the fake looks at the prompt only
    with serving(servicer) as address:
        async with AsyncClient(address) as client:
            await client.generate([ChatMessage("user", "Guten Tag")])

    message = servicer.requests[0].chat.messages[0]
    assert (message.role, message.content) == ("user", b"Guten Tag")


async def test_a_character_split_between_chunks_arrives_whole() -> None:
    word = "Grüße 猫".encode()
    pieces = tuple(word[i : i + 1] for i in range(len(word)))
    with serving(FakeGeneration({PROMPT: Script(pieces)})) as address:
        async with AsyncClient(address) as client:
            chunks = [event async for event in client.stream(PROMPT, speculation="off") if isinstance(event, Chunk)]

    assert len(chunks) == len(pieces)
    assert "".join(chunk.text for chunk in chunks) == "Grüße 猫"
    assert not any("\ufffd" in chunk.text for chunk in chunks)


@pytest.mark.parametrize(
    ("name", "value"), [("max_tokens", -1), ("seed", -5), ("seed", 2**64), ("top_k", -2), ("max_draft_tokens", 2**32)]
)
async def test_a_value_the_wire_cannot_carry_is_named(name: str, value: int) -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(InvalidRequest, match=f"{name} is {value}"):
            await client.generate(PROMPT, **{name: value})  # type: ignore[arg-type]  # any of the options


async def test_a_prompt_over_the_transport_limit_is_refused_by_size() -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(InvalidRequest, match="limit is 4194304"):
            await client.generate(b"x" * 5_000_000)


def test_a_tenant_that_is_no_name_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="tenant"):
        Client("127.0.0.1:1", tenant="a\nb")


def test_sync_client_generates_and_streams() -> None:
    with serving(FakeGeneration({PROMPT: GREETING})) as address, Client(address) as client:
        answer = client.generate(PROMPT)
        texts = [event.text for event in client.stream(PROMPT) if isinstance(event, Chunk)]

    assert answer.text == "".join(texts) == "Good morning, my friend."


def test_leaving_a_stream_early_leaves_the_client_usable() -> None:
    with serving(FakeGeneration({PROMPT: GREETING})) as address, Client(address) as client:
        for event in client.stream(PROMPT):
            if isinstance(event, Chunk):
                break
        answer = client.generate(PROMPT)

    assert answer.text == "Good morning, my friend."


def test_import_brings_neither_torch_nor_ray_nor_numpy() -> None:
    code = (
        "import sys, polydraft; "
        "light = not {'grpc', 'asyncio'} & set(sys.modules); "
        "polydraft.AsyncClient, polydraft.Client, polydraft.Unavailable; "
        "print(light, sorted({'torch', 'ray', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout == "True []\n"


def test_all_names_exist_and_are_all_there_is() -> None:
    assert sorted(polydraft.__all__) == sorted(name for name in dir(polydraft) if hasattr(polydraft, name))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Klient"):
        _ = polydraft.Klient
