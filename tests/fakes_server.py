"""A small real gRPC server with scripted answers: the client's and the command line's counterpart without a cluster.

It keeps the contract of protos/v1/generate.proto, resume included: an answer depends on the prompt alone, and a resumed
call sends what follows the resumed tokens. It runs on a loop in a thread of its own, so that blocking callers work.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

import grpc

from protos.v1 import generate_pb2 as pb
from protos.v1 import types_pb2
from protos.v1.generate_pb2_grpc import GenerationServicer, add_GenerationServicer_to_server

T = TypeVar("T")

NUMERICS_ID = "numerics-1"
TOKENS_A_ROUND = 3
EOS = types_pb2.FINISH_REASON_EOS


@dataclass(frozen=True)
class Script:
    """One prompt's answer: the bytes of each token."""

    pieces: tuple[bytes, ...]
    language: str = "de"

    @property
    def token_ids(self) -> list[int]:
        return [100 + index for index in range(len(self.pieces))]


@dataclass(frozen=True)
class Failure:
    """One prompt's error; an empty `code` is an error of the transport, without our metadata."""

    code: str
    status: grpc.StatusCode
    message: str
    retry_after_s: float | None = None


@dataclass
class FakeGeneration(GenerationServicer):
    """Answers by script. `cuts` holds, for each coming call, after how many of its tokens it breaks (None: never)."""

    scripts: dict[bytes, Script | Failure] = field(default_factory=dict)
    cuts: list[int | None] = field(default_factory=list)
    cut_status: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    overloads: list[float | None] = field(default_factory=list)
    """For each coming call: None, or after how many seconds it is told to come back."""
    numerics_ids: list[str] = field(default_factory=list)
    """What the coming calls say; then NUMERICS_ID."""
    hang_after: int | None = None
    """After this many tokens of a call nothing comes any more, until the server stops."""
    skip_tokens: int = 0
    """A fault: this many tokens are left out after the first round."""
    differs_when_drafted: bool = False
    """A fault: the last token depends on drafting."""
    requests: list[pb.GenerateRequest] = field(default_factory=list)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)

    async def GenerateStream(
        self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext[pb.GenerateRequest, pb.GenerateEvent]
    ) -> AsyncIterator[pb.GenerateEvent]:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata() or ()))
        retry_after_s = self.overloads.pop(0) if self.overloads else None
        if retry_after_s is not None:
            await _fail(context, Failure("OVERLOADED", grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry_after_s))
        cut = self.cuts.pop(0) if self.cuts else None
        script = await self._script(request, context)
        drafts = request.speculation != "off"
        done = len(request.resume.token_ids)
        if list(request.resume.token_ids) != script.token_ids[:done]:
            await _fail(context, Failure("INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT, "resume: other tokens"))
        yield pb.GenerateEvent(
            started=pb.Started(
                request_id="r1",
                effective_seed=request.seed if request.HasField("seed") else 77,
                target_id="target-1",
                numerics_id=self.numerics_ids.pop(0) if self.numerics_ids else NUMERICS_ID,
                language=request.language or script.language,
                drafter=f"lm-{script.language}" if drafts else "off",
                prompt_tokens=4,
            )
        )
        size = TOKENS_A_ROUND if drafts else 1
        first, last = done, len(script.pieces)
        rounds = request.resume.next_round
        if request.HasField("max_tokens"):
            last = min(last, request.max_tokens)
        while done < last:
            end = min(done + size, last)
            if cut is not None and end - first > cut:
                end = first + cut
            if end > done:
                rounds += 1
                yield pb.GenerateEvent(chunk=self._chunk(script, done, end, drafts, rounds))
            if self.hang_after is not None and end - first >= self.hang_after:
                await asyncio.Event().wait()
            done = end + (self.skip_tokens if done == first else 0)
            if cut is not None and done - first >= cut:
                await _fail(context, Failure("", self.cut_status, "socket closed: ipv4:127.0.0.1:9"))
        reason = EOS if last == len(script.pieces) else types_pb2.FINISH_REASON_LENGTH
        yield pb.GenerateEvent(
            finished=pb.Finished(
                finish_reason=reason,
                usage=types_pb2.Usage(prompt_tokens=4, completion_tokens=last - first, cached_prompt_tokens=3),
                speculation=types_pb2.SpeculationFigures(
                    rounds=rounds, drafted=2 * rounds if drafts else 0, accepted=last - rounds
                ),
            )
        )

    async def _script(
        self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext[pb.GenerateRequest, pb.GenerateEvent]
    ) -> Script:
        script: Script | Failure | None = self.scripts.get(request.prompt)
        if script is None:
            script = Failure("INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT, "no script for this prompt")
        if request.HasField("max_tokens") and request.max_tokens == 0:
            script = Failure("INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT, "max_tokens is 0; give at least 1")
        if request.sampling.temperature < 0:
            script = Failure("INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT, "temperature is negative")
        if isinstance(script, Failure):
            await _fail(context, script)
        return script

    def _chunk(self, script: Script, begin: int, end: int, drafts: bool, rounds: int) -> pb.Chunk:
        token_ids = script.token_ids[begin:end]
        if self.differs_when_drafted and drafts and end == len(script.pieces):
            token_ids[-1] += 1
        drafted = [types_pb2.TOKEN_SOURCE_DRAFTER] * (end - begin - 1)
        return pb.Chunk(
            first_token_index=begin,
            token_ids=token_ids,
            text=b"".join(script.pieces[begin:end]),
            sources=[*drafted, types_pb2.TOKEN_SOURCE_TARGET],
            next_round=rounds,
        )


async def _fail(context: grpc.aio.ServicerContext[pb.GenerateRequest, pb.GenerateEvent], failure: Failure) -> NoReturn:
    trailing = [("polydraft-error", failure.code)] if failure.code else []
    if failure.retry_after_s is not None:
        trailing.append(("grpc-retry-pushback-ms", str(round(failure.retry_after_s * 1_000))))
    await context.abort(failure.status, failure.message, tuple(trailing))
    raise AssertionError("abort returned")


class ServerThread:
    """One server on loopback. `stop` drops running calls, as a lost router does."""

    def __init__(
        self, servicer: FakeGeneration, port: int = 0, credentials: grpc.ServerCredentials | None = None
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server, self.port = self._run(self._start(servicer, port, credentials))
        self.address = f"127.0.0.1:{self.port}"

    async def _start(
        self, servicer: FakeGeneration, port: int, credentials: grpc.ServerCredentials | None
    ) -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server()
        add_GenerationServicer_to_server(servicer, server)
        address = f"127.0.0.1:{port}"
        bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        await server.start()
        return server, bound

    def stop(self) -> None:
        self._run(self._server.stop(None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


@contextmanager
def serving(servicer: FakeGeneration) -> Iterator[str]:
    """The address of a running server."""
    server = ServerThread(servicer)
    try:
        yield server.address
    finally:
        server.stop()
