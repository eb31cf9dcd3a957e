"""`AsyncClient`: calls a cluster, and goes on with an answer when the router that began it is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Self, Unpack

import grpc

from polydraft._progress import Progress
from polydraft._wire import MAX_REQUEST_BYTES, error_code, to_error, to_request
from polydraft.answers import Answer, Chunk, Event, Finished, Started, Timing, TokenLogprobs
from polydraft.errors import DeadlineExceeded, InternalError, InvalidRequest, Overloaded
from polydraft.options import GenerateOptions, Prompt
from protos.v1 import generate_pb2 as pb
from protos.v1.generate_pb2_grpc import GenerationStub

TENANT_METADATA, KEY_METADATA = "polydraft-tenant", "polydraft-key"
RESUME_DELAYS_S = (0.1, 0.3, *[1.0] * 40)
"""Waits before the calls that go on with a broken answer: a replacement takes seconds to come up, that of Serve's proxy
half a minute where Serve looks for it every ten seconds."""

_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", MAX_REQUEST_BYTES + 64 * 1024),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES + 64 * 1024),
    # Clients of one process would share a connection, and with it one router.
    ("grpc.use_local_subchannel_pool", 1),
    # The default grows to two minutes: a returned router would not be noticed.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Despite its name this is how long connecting may take, and a distant server answers a TLS handshake late.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class AsyncClient:
    """A connection to a cluster; usable from the event loop that made it.

    async with AsyncClient("localhost:9000", tenant="acme") as client:
        async for event in client.stream("Guten Morgen"):
            ...
    """

    def __init__(
        self,
        address: str,
        tenant: str | None = None,
        *,
        key: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """`key` proves the tenant; `credentials` turn TLS on; `timeout_s` bounds each answer, over all its calls."""
        given = ((TENANT_METADATA, tenant), (KEY_METADATA, key))
        self._metadata = tuple((name, value) for name, value in given if value is not None)
        for name, value in self._metadata:
            if not (value and value.isascii() and value.isprintable()):
                raise InvalidRequest(f"{name} must be printable ASCII characters")  # the value may be a secret
        self._timeout_s = timeout_s
        self._reached = False  # a server has answered here before
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials, options=_CHANNEL_OPTIONS)
        self._stub = GenerationStub(self._channel)

    async def generate(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> Answer:
        """The whole answer at once."""
        begin = time.perf_counter()
        ttft_s: float | None = None
        started: Started | None = None
        finished: Finished | None = None
        token_ids: list[int] = []
        pieces: list[str] = []
        logprobs: list[TokenLogprobs] = []
        async for event in self.stream(prompt, **options):
            if isinstance(event, Started):
                started = event
            elif isinstance(event, Finished):
                finished = event
            else:
                if ttft_s is None and event.token_ids:
                    ttft_s = time.perf_counter() - begin
                token_ids.extend(event.token_ids)
                pieces.append(event.text)
                logprobs.extend(event.logprobs)
        if started is None or finished is None:
            raise InternalError("the answer came without its first message; update the client or the server")
        timing = Timing(ttft_s, time.perf_counter() - begin)
        return Answer("".join(pieces), tuple(token_ids), started, finished, timing, tuple(logprobs))

    async def stream(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> AsyncGenerator[Event, None]:
        """`Started`, then `Chunk`s, then `Finished`. Leaving the loop early cancels the answer."""
        begin = time.monotonic()
        progress = Progress(to_request(prompt, options))
        num_breaks = 0  # in a row, without a token between them
        while not progress.finished:
            elapsed_s = time.monotonic() - begin
            call = self._call(progress.request(elapsed_s), elapsed_s)
            try:
                async for message in call:
                    self._reached = True
                    for event in progress.accept(message):
                        if isinstance(event, Chunk) and event.token_ids:
                            num_breaks = 0
                        yield event
                if not progress.finished:
                    raise InternalError("the stream ended before the answer did; ask again")
            except grpc.aio.AioRpcError as error:
                failure = to_error(error)
                # What a lost router held of the tenant's limits is free again only after a while.
                goes_on = _is_break(error) or (isinstance(failure, Overloaded) and num_breaks > 0)
                if not self._reached or not goes_on or num_breaks == len(RESUME_DELAYS_S):
                    raise failure from None
                hint_s = failure.retry_after_s if isinstance(failure, Overloaded) else None
                await asyncio.sleep(max(RESUME_DELAYS_S[num_breaks], hint_s or 0.0))
                num_breaks += 1
            finally:
                call.cancel()

    def _call(
        self, request: pb.GenerateRequest, elapsed_s: float
    ) -> grpc.aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateEvent]:
        timeout_s = None if self._timeout_s is None else self._timeout_s - elapsed_s
        if timeout_s is not None and timeout_s <= 0:
            raise DeadlineExceeded("the call's deadline passed; allow more time")
        call: grpc.aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateEvent] = self._stub.GenerateStream(
            request, metadata=self._metadata, timeout=timeout_s
        )
        return call

    async def close(self) -> None:
        """Close the connection; running answers end as cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _is_break(error: grpc.aio.AioRpcError) -> bool:
    """Whether the server went away. A stopping server cancels its calls, and then says no code of ours."""
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return True
    return error.code() is grpc.StatusCode.CANCELLED and not error_code(error)
