"""The OpenAI API as the official client sees it: its calls work unchanged, and its answers are those of gRPC."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import openai
import pytest

from cluster.keys import hash_key, new_key
from cluster.openai.calls import choice_seed
from polydraft.commands.demo_sentences import SENTENCES
from polydraft.errors import Overloaded
from polydraft.options import ChatMessage
from tests.integration.conftest import RunningCluster

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROMPT = "Translate German to English: Wo ist der Bahnhof?\n"
OTHER = "Translate French to English: Il fait beau ce matin.\n"
LONG_PROMPT = "Translate German to English: " + " ".join(SENTENCES["de"]) + "\n"
CHANGE_S = 10.0


@asynccontextmanager
async def calling(cluster: RunningCluster, key: str = "none needed") -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{cluster.http}/v1", api_key=key, max_retries=0, timeout=60) as client:
        yield client


async def test_models_are_listed(running_cluster: RunningCluster) -> None:
    async with calling(running_cluster) as client:
        assert [model.id async for model in client.models.list()] == ["target"]
        assert (await client.models.retrieve("target")).owned_by == "polydraft"


@pytest.mark.parametrize("speculation", ["auto", "off"])
async def test_a_completion_is_the_answer_of_grpc(running_cluster: RunningCluster, speculation: str) -> None:
    options: dict[str, Any] = {"max_tokens": 24, "temperature": 0.8, "top_p": 0.9, "seed": 11}
    async with running_cluster.client() as grpc_client:
        expected = await grpc_client.generate(PROMPT, speculation=speculation, logprobs=2, **options)

    async with calling(running_cluster) as client:
        asked: dict[str, Any] = {
            "model": "target",
            "prompt": PROMPT,
            "logprobs": 2,
            "extra_body": {"speculation": speculation},
        }
        whole = await client.completions.create(**asked, **options)
        stream = await client.completions.create(
            **asked, **options, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]

    (choice,) = whole.choices
    assert choice.text == "".join(one.text for chunk in chunks for one in chunk.choices) == expected.text
    assert whole.usage is not None and chunks[-1].usage == whole.usage.model_copy(
        update={"prompt_tokens_details": chunks[-1].usage.prompt_tokens_details}
    )
    assert whole.usage.completion_tokens == len(expected.token_ids)
    assert whole.usage.prompt_tokens == expected.usage.prompt_tokens
    assert whole.system_fingerprint == expected.numerics_id
    assert choice.finish_reason == "stop" == chunks[-2].choices[0].finish_reason
    assert choice.logprobs is not None
    told = [t for chunk in chunks for one in chunk.choices if one.logprobs for t in one.logprobs.token_logprobs]
    assert choice.logprobs.token_logprobs == [one.logprob for one in expected.logprobs] == told
    assert "".join(choice.logprobs.tokens) == expected.text
    assert all(
        sorted(found.values(), reverse=True)[:2] == [logprob for _, logprob in one.top]
        for found, one in zip(choice.logprobs.top_logprobs, expected.logprobs, strict=True)
    )
    details = whole.model_extra["polydraft"]["choices"][0]
    assert (details["language"], details["drafter"]) == ("de", "de" if speculation == "auto" else "off")
    assert (details["speculation"]["drafted"] > 0) == (speculation == "auto")


async def test_a_chat_is_the_answer_of_grpc(running_cluster: RunningCluster) -> None:
    turns = [("system", "Translate German to English."), ("user", "Guten Morgen.")]
    async with running_cluster.client() as grpc_client:
        chat = [ChatMessage(role, content) for role, content in turns]
        expected = await grpc_client.generate(chat, max_tokens=16, seed=3, temperature=1.0, logprobs=3)

    async with calling(running_cluster) as client:
        asked: dict[str, Any] = {
            "model": "target",
            "messages": [
                {"role": "developer", "content": turns[0][1]},
                {"role": "user", "content": [{"type": "text", "text": turns[1][1]}]},
            ],
            "max_completion_tokens": 16,
            "seed": 3,
            "logprobs": True,
            "top_logprobs": 3,
            "user": "somebody",
        }
        whole = await client.chat.completions.create(**asked)
        stream = await client.chat.completions.create(**asked, stream=True)
        chunks = [chunk async for chunk in stream]

    (choice,) = whole.choices
    assert choice.message.role == chunks[0].choices[0].delta.role == "assistant"
    assert choice.message.content == expected.text
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected.text
    assert choice.logprobs is not None and choice.logprobs.content is not None
    assert [one.logprob for one in choice.logprobs.content] == [one.logprob for one in expected.logprobs]
    assert b"".join(bytes(one.bytes or ()) for one in choice.logprobs.content).decode() == expected.text
    assert all(len(one.top_logprobs) == 3 for one in choice.logprobs.content)
    assert all(chunk.usage is None for chunk in chunks)


async def test_stop_strings_and_lengths_end_an_answer(running_cluster: RunningCluster) -> None:
    async with calling(running_cluster) as client:
        ask: dict[str, Any] = {"model": "target", "prompt": PROMPT, "temperature": 0}
        stopped = await client.completions.create(**ask, stop=["station"])
        short = await client.completions.create(**ask, max_tokens=2)
        chatted = await client.chat.completions.create(
            model="target", messages=[{"role": "user", "content": PROMPT}], max_tokens=3, temperature=0
        )

    assert (stopped.choices[0].text, stopped.choices[0].finish_reason) == ("Where is the ", "stop")
    assert short.choices[0].finish_reason == "length" and short.usage is not None
    assert short.usage.completion_tokens == 2
    assert chatted.usage is not None and chatted.usage.completion_tokens <= 3


async def test_a_long_stream_arrives_whole(running_cluster: RunningCluster) -> None:
    """It is longer than what a router may be ahead of Serve's proxy: the proxy's signs come through."""
    asked: dict[str, Any] = {"model": "target", "prompt": LONG_PROMPT, "max_tokens": 200, "temperature": 0, "n": 8}
    async with running_cluster.client() as grpc_client:
        expected = await grpc_client.generate(LONG_PROMPT, max_tokens=200)

    async with calling(running_cluster) as client:
        stream = await client.completions.create(**asked, stream=True, extra_body={"speculation": "off"})
        told = [(chunk.choices[0].index, chunk.choices[0].text) async for chunk in stream]

    assert ["".join(text for index, text in told if index == n) for n in range(8)] == [expected.text] * 8
    assert len(told) > 3 * 64


async def test_choices_have_seeds_of_their_own_and_prompts_any_form(running_cluster: RunningCluster) -> None:
    async with running_cluster.client() as grpc_client:
        expected = [
            (await grpc_client.generate(prompt, seed=choice_seed(5, n), temperature=1.0, max_tokens=12)).text
            for prompt in (PROMPT, OTHER)
            for n in range(2)
        ]

    async with calling(running_cluster) as client:
        asked: dict[str, Any] = {"model": "target", "seed": 5, "n": 2, "max_tokens": 12}
        answer = await client.completions.create(**asked, prompt=[PROMPT, OTHER])
        stream = await client.completions.create(**asked, prompt=[PROMPT, OTHER], stream=True)
        streamed = ["", "", "", ""]
        async for chunk in stream:
            for choice in chunk.choices:
                streamed[choice.index] += choice.text
        ids = await client.completions.create(model="target", prompt=[7, 8, 9], max_tokens=1)

    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in answer.choices] == streamed == expected
    assert answer.usage is not None and ids.usage is not None and ids.usage.prompt_tokens == 3
    details = answer.model_extra["polydraft"]["choices"]
    assert [one["seed"] for one in details] == [5, choice_seed(5, 1)] * 2


Call = Callable[[openai.AsyncOpenAI], Awaitable[object]]


def _completion(**fields: Any) -> Call:
    asked: dict[str, Any] = {"model": "target", "prompt": PROMPT, "max_tokens": 2}
    return lambda client: client.completions.create(**asked | fields)


def _chat(**fields: Any) -> Call:
    asked: dict[str, Any] = {"model": "target", "messages": [{"role": "user", "content": "Wo ist er?"}]}
    return lambda client: client.chat.completions.create(**asked | fields)


@pytest.mark.parametrize(
    ("call", "kind", "param", "code"),
    [
        (_completion(model="other"), openai.NotFoundError, "model", "model_not_found"),
        (_completion(extra_body={"min_q": 1}), openai.BadRequestError, "min_q", "unknown_parameter"),
        (_completion(echo=True), openai.BadRequestError, "echo", "unsupported_parameter"),
        (_completion(temperature=2.5), openai.BadRequestError, "temperature", "invalid_value"),
        (_completion(logprobs=6), openai.BadRequestError, "logprobs", "invalid_value"),
        (_completion(prompt=""), openai.BadRequestError, "prompt", "invalid_value"),
        (_completion(prompt=[99_999]), openai.BadRequestError, "prompt", "invalid_value"),
        (_completion(prompt="house " * 2_000), openai.BadRequestError, "prompt", "context_length_exceeded"),
        (_completion(extra_body={"language": "xx"}), openai.BadRequestError, "language", "invalid_value"),
        (_completion(extra_body={"speculation": "klingon"}), openai.BadRequestError, "speculation", "invalid_value"),
        (_chat(tools=[{"type": "function"}]), openai.BadRequestError, "tools", "unsupported_parameter"),
        (_chat(messages=[]), openai.BadRequestError, "messages", "invalid_value"),
        (
            _chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
            openai.BadRequestError,
            "messages[0].content",
            "invalid_value",
        ),
        (_chat(stream=True, max_tokens=1 << 20), openai.BadRequestError, "max_tokens", "invalid_value"),
    ],
)
async def test_refusals_are_those_that_the_client_knows(
    running_cluster: RunningCluster, call: Call, kind: type[openai.APIStatusError], param: str, code: str
) -> None:
    async with calling(running_cluster) as client:
        with pytest.raises(kind) as raised:
            await call(client)
    assert (raised.value.param, raised.value.code) == (param, code)
    assert raised.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("path", "method", "body", "content_type", "status"),
    [
        ("completions", "POST", b"{", "application/json", 400),
        ("completions", "POST", b"[]", "application/json", 400),
        ("completions", "POST", b"{}", "text/plain", 415),
        ("completions", "POST", b" " * (5 << 20), "application/json", 413),
        ("completions", "GET", b"", "application/json", 405),
        ("embeddings", "POST", b"{}", "application/json", 404),
    ],
)
async def test_what_no_client_sends_is_refused_in_the_same_form(
    running_cluster: RunningCluster, path: str, method: str, body: bytes, content_type: str, status: int
) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.request(
            method, f"{running_cluster.http}/v1/{path}", data=io.BytesIO(body), headers={"content-type": content_type}
        ) as response,
    ):
        error = (await response.json())["error"]
    assert response.status == status
    assert set(error) == {"message", "type", "param", "code"} and error["message"]


async def _wait_for_tenants(cluster: RunningCluster, key: str) -> None:
    """Until the routers know of them."""
    deadline_s = time.monotonic() + CHANGE_S
    while True:
        try:
            async with calling(cluster, key) as client:
                await client.models.list()
            return
        except openai.AuthenticationError:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.2)


async def test_tenants_and_limits_are_those_of_grpc_and_a_lost_client_gives_its_place_back(
    running_cluster: RunningCluster,
) -> None:
    key = new_key()
    # Two tokens a second: the answer would take longer than the test waits for its place.
    limits = "max_concurrent: 1, output_tokens_per_minute: 120"
    running_cluster.tenants_file.write_text(f"solo: {{keys: ['{hash_key(key)}'], {limits}}}\n")
    await _wait_for_tenants(running_cluster, f"solo:{key}")

    async with calling(running_cluster, "solo:wrong") as stranger:
        for call in (stranger.models.list(), _completion()(stranger)):
            with pytest.raises(openai.AuthenticationError) as refused:
                await call
            assert refused.value.code == "invalid_api_key"

    async with calling(running_cluster, key) as client:
        named = client.with_options(default_headers={"polydraft-tenant": "solo"})
        stream = await named.completions.create(
            model="target", prompt=LONG_PROMPT, max_tokens=200, temperature=0, stream=True
        )
        await anext(aiter(stream))
        async with running_cluster.client("solo", key) as grpc_client:
            with pytest.raises(openai.RateLimitError) as limited:
                await _completion()(named)
            assert limited.value.response.headers["retry-after"] == "1"

            await stream.close()
            deadline_s = time.monotonic() + CHANGE_S
            while True:
                try:
                    await grpc_client.generate(PROMPT, max_tokens=2)
                    break
                except Overloaded:
                    assert time.monotonic() < deadline_s
                    await asyncio.sleep(0.1)
