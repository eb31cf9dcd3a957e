"""The OpenAI API behind a proxy like Serve's: who is judged when, what is read, and what becomes of slow readers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.config import Config
from cluster.events import Chunk, Event, Figures, Finished, Started, TokenSource
from cluster.messages import FinishReason
from cluster.request import RawRequest
from deployments.generation import Generation
from deployments.http_flow import MAX_BODY_BYTES, ProxyFlow
from deployments.openai_api import OpenAiApi
from tests.unit.cluster.fakes import byte_tokenizer
from tests.unit.deployments.fronts import FakeService

NUM_CHUNKS = 1_000


class TalkingService(FakeService):
    """Has much to say to the prompt "talk"."""

    def __init__(self) -> None:
        super().__init__()
        self.num_told = 0

    async def answer(
        self, raw: RawRequest, *, request_id: str, tenant_name: str, key: str, traceparent: str
    ) -> AsyncGenerator[Event, None]:
        if raw.prompt != b"talk":
            async for event in super().answer(
                raw, request_id=request_id, tenant_name=tenant_name, key=key, traceparent=traceparent
            ):
                yield event
            return
        try:
            yield Started(request_id, 7, "t", "n", "de", "off", 3)
            for number in range(NUM_CHUNKS):
                self.num_told += 1
                yield Chunk(number, (65,), "a", (TokenSource.TARGET,), 1)
            yield Finished(FinishReason.EOS, 3, NUM_CHUNKS, Figures())
        finally:
            self.closed.set()


def serves_proxy(app: ASGIApp) -> ASGIApp:
    """As Ray Serve 2.60: takes the client's messages before they are asked for, and the answer's as they come."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        from_client: asyncio.Queue[Message] = asyncio.Queue()
        to_client: asyncio.Queue[Message | None] = asyncio.Queue()

        async def take() -> None:
            while True:
                message = await receive()
                from_client.put_nowait(message)
                if message["type"] == "http.disconnect":
                    running.cancel()
                    return

        async def run() -> None:
            try:
                await app(scope, from_client.get, to_client.put)
            finally:
                to_client.put_nowait(None)

        running = asyncio.create_task(run())
        taking = asyncio.create_task(take())
        try:
            while (message := await to_client.get()) is not None:
                await send(message)
        finally:
            taking.cancel()
            running.cancel()
            await asyncio.gather(taking, running, return_exceptions=True)

    return ProxyFlow(proxy)


class Client:
    """One request of a caller."""

    def __init__(self, body: bytes | list[bytes], path: str = "/v1/completions", **headers: str) -> None:
        self.chunks = [body] if isinstance(body, bytes) else body
        given = {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        self.scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "scheme": "http",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }
        self.gone = asyncio.Event()
        self.reads = asyncio.Event()
        """Unset: it takes nothing of the answer but its head."""
        self.reads.set()
        self.num_sent = 0
        self.status = 0
        self.body = b""
        self.is_whole = False

    async def receive(self) -> Message:
        if self.num_sent < len(self.chunks):
            self.num_sent += 1
            more = self.num_sent < len(self.chunks)
            return {"type": "http.request", "body": self.chunks[self.num_sent - 1], "more_body": more}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        await self.reads.wait()
        self.body += message["body"]
        self.is_whole = not message.get("more_body", False)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)["error"]
        return found


async def called(app: ASGIApp, client: Client) -> None:
    await app(client.scope, client.receive, client.send)


@pytest.fixture
def service() -> TalkingService:
    return TalkingService()


@pytest.fixture
def app(tmp_path: Path, service: TalkingService) -> ASGIApp:
    model = tmp_path / "llama"
    model.mkdir()
    tokenizer = byte_tokenizer(model)
    (model / "config.json").write_text("{}")
    config = Config.model_validate({"target": {"model": str(model)}, "limits": {"slow_reader_s": 0.2}})
    generation = Generation(service)  # type: ignore[arg-type]  # has the methods needed
    return serves_proxy(OpenAiApi(config, generation, tokenizer).app())


def asking(**fields: object) -> bytes:
    return json.dumps({"model": "llama", "prompt": "x"} | fields).encode()


async def test_an_answer_and_a_stream(app: ASGIApp, service: TalkingService) -> None:
    whole, stream = Client(asking(), authorization="Bearer acme:k"), Client(asking(stream=True), polydraft_tenant="b")
    for client in (whole, stream):
        await called(app, client)
        assert client.status == 200 and client.is_whole

    assert json.loads(whole.body)["choices"][0]["text"] == "\u00e9"
    lines = stream.body.decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert "".join(json.loads(line[6:])["choices"][0]["text"] for line in lines[:-2]) == "\u00e9"
    assert [call[2:] for call in service.calls] == [("acme", "k"), ("b", "")]


async def test_a_caller_is_judged_before_the_body_is_read(app: ASGIApp) -> None:
    client = Client([b"x" * 1_000] * 3, authorization="Bearer wrong")
    client.chunks.append(b"")
    client.scope["headers"].append((b"x-request-timeout-seconds", b"0"))
    await called(app, client)
    assert (client.status, client.error["code"]) == (401, "invalid_api_key")


async def test_a_body_is_bounded_and_must_come(app: ASGIApp) -> None:
    client = Client([b" " * (1 << 20)] * 64)
    await called(app, client)
    assert (client.status, client.error["code"]) == (413, "request_too_large")
    assert client.num_sent <= MAX_BODY_BYTES // (1 << 20) + 1

    class Silent(Client):
        async def receive(self) -> Message:
            await self.gone.wait()
            return {"type": "http.disconnect"}

    silent = Silent(b"")
    await called(app, silent)
    assert silent.status == 408


async def test_a_fault_of_ours_tells_a_request_id_and_nothing_else(app: ASGIApp, service: TalkingService) -> None:
    whole, stream = Client(asking(prompt="crash")), Client(asking(prompt="crash", stream=True))
    for client in (whole, stream):
        await called(app, client)
        assert b"secret" not in client.body and service.calls[-1][1].encode() in client.body

    assert (whole.status, whole.error["type"]) == (500, "server_error")
    told = stream.body.decode().split("\n\n")
    assert stream.status == 200 and json.loads(told[-2][6:])["error"]["code"] == "internal_error"


async def test_a_refused_stream_has_a_status(app: ASGIApp) -> None:
    client = Client(asking(prompt="refuse", stream=True))
    await called(app, client)
    assert (client.status, client.error["param"]) == (400, "language")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_closes_its_answer(app: ASGIApp, service: TalkingService, stream: bool) -> None:
    client = Client(asking(prompt="hang", stream=stream))
    running = asyncio.create_task(called(app, client))
    while not service.calls:
        await asyncio.sleep(0)
    client.gone.set()
    await asyncio.wait_for(service.closed.wait(), 5)
    await running
    assert not client.is_whole


async def test_a_slow_reader_is_waited_for_and_then_given_up(app: ASGIApp, service: TalkingService) -> None:
    client = Client(asking(prompt="talk", stream=True))
    client.reads.clear()
    running = asyncio.create_task(called(app, client))
    await asyncio.wait_for(service.closed.wait(), 5)

    assert service.num_told < 100  # what was on the way, and no more
    client.reads.set()
    await running
    assert not client.is_whole and b"[DONE]" not in client.body


async def test_a_reader_of_all_gets_all(app: ASGIApp, service: TalkingService) -> None:
    client = Client(asking(prompt="talk", stream=True))
    await called(app, client)
    assert client.is_whole and client.body.count(b'"text":"a"') == service.num_told == NUM_CHUNKS
