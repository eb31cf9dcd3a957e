"""The OpenAI HTTP API of a router, as the ASGI app that Serve's HTTP ingress calls."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.config import Config
from cluster.delivery import deliver
from cluster.errors import Cancelled, InternalError, PolydraftError, printable
from cluster.events import Event
from cluster.openai.calls import calls_of
from cluster.openai.choices import Choice, Told, interleaved
from cluster.openai.errors import ErrorReply, Refused, error_reply, refusal
from cluster.openai.replies import Kind, Reply
from cluster.openai.requests import ChatBody, CompletionBody, read_body
from cluster.openai.token_texts import TokenTexts
from cluster.text import Tokenizer
from deployments.generation import TRACE_METADATA, Caller, Generation
from deployments.http_flow import MAX_BODY_BYTES, BodyTooLarge, Outlet, body_chunks

logger = logging.getLogger(__name__)

TENANT_HEADER = "polydraft-tenant"
_STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
_BODY_OF: dict[Kind, type[CompletionBody] | type[ChatBody]] = {Kind.COMPLETION: CompletionBody, Kind.CHAT: ChatBody}
T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[ASGIApp]]


@dataclass(frozen=True, slots=True)
class _Model:
    """What `/v1/models` tells of the target."""

    name: str
    created: int

    @property
    def body(self) -> dict[str, object]:
        return {"id": self.name, "object": "model", "created": self.created, "owned_by": "polydraft"}


class OpenAiApi:
    """The endpoints. Callers are judged before their bodies are read."""

    def __init__(self, config: Config, generation: Generation, tokenizer: Tokenizer) -> None:
        self._generation = generation
        self._slow_reader_s = config.limits.slow_reader_s
        self._tokenizer, self._texts = tokenizer, TokenTexts(tokenizer)
        target = config.target
        self._model = _Model(target.name, int((target.model / "config.json").stat().st_mtime))

    def app(self, others: Sequence[Route] = ()) -> Starlette:
        """What Serve calls; `others` are served beside the API."""
        routes = [
            Route("/v1/completions", answering(self._completions), methods=["POST"]),
            Route("/v1/chat/completions", answering(self._chat), methods=["POST"]),
            Route("/v1/models", answering(self._list_models), methods=["GET"]),
            Route("/v1/models/{name:path}", answering(self._show_model), methods=["GET"]),
            *others,
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: _no_such_endpoint})
        app.router.redirect_slashes = False
        return app

    async def _list_models(self, request: Request) -> ASGIApp:
        self._generation.check(caller_of(request))
        return JSONResponse({"object": "list", "data": [self._model.body]})

    async def _show_model(self, request: Request) -> ASGIApp:
        self._generation.check(caller_of(request))
        self._check_model(request.path_params["name"])
        return JSONResponse(self._model.body)

    async def _completions(self, request: Request) -> ASGIApp:
        return await self._answer(request, Kind.COMPLETION)

    async def _chat(self, request: Request) -> ASGIApp:
        return await self._answer(request, Kind.CHAT)

    async def _answer(self, request: Request, kind: Kind) -> ASGIApp:
        caller = caller_of(request)
        self._generation.check(caller)
        body: CompletionBody | ChatBody = read_body(_BODY_OF[kind], await self._read(request))
        self._check_model(body.model)
        calls = calls_of(body, secrets.randbits(53) or 1)
        reply = Reply(
            kind,
            secrets.token_hex(12),
            int(time.time()),
            self._model.name,
            {call.index: call.group for call in calls},
            self._tokenizer,
            self._texts,
            includes_usage=body.includes_usage,
            tells_sources=body.token_sources,
        )
        events = interleaved(
            [Choice(call.index, call.group, self._generation.answer_raw(call.raw, caller)) for call in calls]
        )
        if body.stream:
            return await EventStream.begun(reply, events, self._slow_reader_s)
        return await unless_gone(Outlet.of(request), _whole(reply, events))

    async def _read(self, request: Request) -> bytes:
        """The whole body."""
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise refusal("Invalid Content-Type header; send 'Content-Type: application/json'.", status=415)
        chunks = body_chunks(request.receive)
        data = bytearray()
        try:
            while True:
                async with asyncio.timeout(self._slow_reader_s):
                    data += await anext(chunks)
        except StopAsyncIteration:
            return bytes(data)
        except TimeoutError:
            raise Cancelled(f"nothing of the body came for {self._slow_reader_s:g} s; send it at once") from None
        except BodyTooLarge:
            message = f"The request body is too large; at most {MAX_BODY_BYTES} bytes are served."
            raise refusal(message, code="request_too_large", status=413) from None

    def _check_model(self, name: str) -> None:
        if name != self._model.name:
            message = f"The model '{printable(name)}' does not exist; this cluster serves '{self._model.name}'."
            raise refusal(message, "model", "model_not_found", status=404)


class EventStream:
    """The response that tells events as they come, in the form of server-sent events."""

    def __init__(
        self, reply: Reply, told: Sequence[bytes], events: AsyncGenerator[Told, None], slow_reader_s: float
    ) -> None:
        self._reply, self._told, self._events = reply, told, events
        self._slow_reader_s = slow_reader_s

    @classmethod
    async def begun(cls, reply: Reply, events: AsyncGenerator[Told, None], slow_reader_s: float) -> EventStream:
        """When every choice has begun: what is refused until then has a status of its own."""
        told: list[bytes] = []
        try:
            while not reply.is_started:
                told += _lines_of(reply, *await anext(events))
        except BaseException:
            await events.aclose()
            raise
        return cls(reply, told, events, slow_reader_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outlet = Outlet(scope, receive, send)
        try:
            await unless_gone(outlet, self._deliver(outlet))
        except Cancelled as error:  # no end is told, so the connection is closed
            logger.info("a stream was given up: %s", error.message)
        finally:
            await self._events.aclose()

    async def _deliver(self, outlet: Outlet) -> None:
        async def write(line: bytes) -> None:
            await outlet.send({"type": "http.response.body", "body": line, "more_body": True})

        await outlet.send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
        await deliver(self._lines(), write, self._slow_reader_s)
        await outlet.send({"type": "http.response.body", "body": b""})

    async def _lines(self) -> AsyncGenerator[bytes, None]:
        for line in self._told:
            yield line
        try:
            async for index, event in self._events:
                for line in _lines_of(self._reply, index, event):
                    yield line
            for chunk in self._reply.end():
                yield _line(chunk)
            yield b"data: [DONE]\n\n"
        except PolydraftError as error:
            yield _line(error_reply(error).body)


def _lines_of(reply: Reply, index: int, event: Event) -> list[bytes]:
    """What a stream says of an event."""
    logprobs = reply.add(index, event)
    return [_line(chunk) for chunk in reply.chunks(index, event, logprobs)]


def _line(chunk: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def _whole(reply: Reply, events: AsyncGenerator[Told, None]) -> ASGIApp:
    async with aclosing(events):
        async for index, event in events:
            reply.add(index, event)
    return JSONResponse(reply.whole())


async def unless_gone(outlet: Outlet, work: Coroutine[object, object, T]) -> T:
    """The result of `work`, which ends with Cancelled when the client goes before."""
    working, listening = asyncio.create_task(work), asyncio.create_task(outlet.listen())
    try:
        await asyncio.wait((working, listening), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Cancelled("the client went away")
        return working.result()
    finally:
        working.cancel()
        listening.cancel()
        await asyncio.gather(working, listening, return_exceptions=True)


def caller_of(request: Request) -> Caller:
    """`Bearer KEY` beside a header that names the tenant, or `Bearer TENANT:KEY`, or the default tenant's key alone."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    key = key.strip() if scheme.lower() == "bearer" else ""
    tenant = request.headers.get(TENANT_HEADER, "")
    if not tenant and ":" in key:
        tenant, _, key = key.partition(":")
    return Caller(tenant, key, request.headers.get(TRACE_METADATA, ""))


def answering(endpoint: Endpoint) -> Endpoint:
    """The endpoint with every failure as an answer in OpenAI's form."""

    async def answer(request: Request) -> ASGIApp:
        try:
            return await endpoint(request)
        except Refused as refused:
            return _error(refused.reply)
        except PolydraftError as error:
            return _error(error_reply(error))
        except Exception:
            logger.exception("%s failed", request.url.path)
            return _error(error_reply(InternalError("internal error; the log has the details")))

    return answer


async def _no_such_endpoint(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException), error
    where = f"{request.method} {printable(request.url.path)}"
    if error.status_code == 405:
        return _error(ErrorReply(405, f"Not allowed: {where}.", code="method_not_allowed"), error.headers)
    return _error(ErrorReply(error.status_code, f"Invalid URL ({where}).", code="unknown_url"))


def _error(reply: ErrorReply, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(reply.body, reply.status, {**reply.headers, **(headers or {})})
