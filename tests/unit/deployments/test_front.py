"""The public front over real gRPC on loopback: statuses, metadata, cancellation, size limit, health; nothing leaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.fuzz.calls import Call, Manner, ask
from benchmarks.fuzz.raw_http2 import exchange, request
from deployments.front import Front
from protos.v1 import generate_pb2 as pb
from protos.v1.generate_pb2_grpc import GenerationStub
from tests.unit.deployments.fronts import FakeService, serving


@asynccontextmanager
async def calling() -> AsyncIterator[tuple[FakeService, grpc.aio.Channel, Front]]:
    options = (("grpc.max_send_message_length", 64 << 20),)
    async with (
        serving() as (service, front, address),
        grpc.aio.insecure_channel(address, options=options) as channel,
    ):
        yield service, channel, front


async def failure_of(call: grpc.aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateEvent]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    return caught.value


async def test_stream_and_unary_tell_the_same() -> None:
    async with calling() as (service, channel, _):
        stub = GenerationStub(channel)
        metadata = (("polydraft-tenant", "acme"), ("polydraft-key", "k"))

        events = [event async for event in stub.GenerateStream(pb.GenerateRequest(prompt=b"x"), metadata=metadata)]
        response = await stub.Generate(pb.GenerateRequest(prompt=b"x"))

        assert [event.WhichOneof("event") for event in events] == ["started", "chunk", "finished"]
        assert response.text == events[1].chunk.text == b"\xc3\xa9" and list(response.token_ids) == [5]
        assert service.calls[0][0].prompt == b"x" and service.calls[0][2:] == ("acme", "k")
        assert events[0].started.request_id == service.calls[0][1] != service.calls[1][1]


async def test_refusals_have_status_code_and_message() -> None:
    async with calling() as (_, channel, _):
        error = await failure_of(GenerationStub(channel).GenerateStream(pb.GenerateRequest(prompt=b"refuse")))

        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details() == "language: 'xx' is not served; served: de"
        assert ("polydraft-error", "UNSUPPORTED_LANGUAGE") in tuple(error.trailing_metadata() or ())


@pytest.mark.parametrize("method", ["GenerateStream", "Generate"])
async def test_faults_of_ours_tell_a_request_id_and_nothing_else(method: str) -> None:
    async with calling() as (service, channel, _):
        call: Callable[..., object] = getattr(GenerationStub(channel), method)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            result = call(pb.GenerateRequest(prompt=b"crash"))
            if method == "Generate":
                await result  # type: ignore[misc]  # the stub is untyped
            else:
                [event async for event in result]  # type: ignore[attr-defined]

        error = caught.value
        assert error.code() is grpc.StatusCode.INTERNAL
        assert error.details() == f"internal error; the log has the details under request id {service.calls[0][1]}"
        assert "secret" not in str(error.trailing_metadata())


async def test_cancelled_call_closes_its_answer() -> None:
    async with calling() as (service, channel, _):
        call = GenerationStub(channel).GenerateStream(pb.GenerateRequest(prompt=b"hang"))
        await call.read()
        call.cancel()

        async with asyncio.timeout(20):
            await service.closed.wait()


async def test_deadline_closes_the_answer() -> None:
    async with calling() as (service, channel, _):
        call = GenerationStub(channel).GenerateStream(pb.GenerateRequest(prompt=b"hang"), timeout=1.0)

        assert (await failure_of(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(20):
            await service.closed.wait()


async def test_a_reader_that_takes_nothing_at_all_is_told_so() -> None:
    # So narrow that not even the first event fits: its write is what is cut.
    narrow = (("grpc.http2.lookahead_bytes", 5), ("grpc.http2.bdp_probe", 0))
    async with (
        serving(slow_reader_s=0.2) as (service, _, address),
        grpc.aio.insecure_channel(address, options=narrow) as channel,
    ):
        call = GenerationStub(channel).GenerateStream(pb.GenerateRequest(prompt=b"x"), timeout=20)
        async with asyncio.timeout(20):
            await service.closed.wait()

        error = await failure_of(call)

    assert error.code() is grpc.StatusCode.CANCELLED
    assert ("polydraft-error", "CANCELLED") in tuple(error.trailing_metadata() or ())


async def test_huge_prompt_is_refused_by_the_transport_and_serving_goes_on() -> None:
    async with calling() as (service, channel, _):
        stub = GenerationStub(channel)

        error = await failure_of(stub.GenerateStream(pb.GenerateRequest(prompt=b"x" * 50_000_000)))

        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in str(error.details())
        assert not service.calls
        assert (await stub.Generate(pb.GenerateRequest(prompt=b"x"))).text


async def test_huge_metadata_is_refused_by_the_transport_and_serving_goes_on() -> None:
    async with calling() as (service, channel, _):
        stub = GenerationStub(channel)
        metadata = (("polydraft-tenant", "a" * (64 << 10)),)

        error = await failure_of(stub.GenerateStream(pb.GenerateRequest(prompt=b"x"), metadata=metadata))

        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert not service.calls
        assert (await stub.Generate(pb.GenerateRequest(prompt=b"x"))).text


METHODS = (
    "/polydraft.v1.Generation/Generate",
    "/polydraft.v1.Generation/GenerateStream",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
)
NO_UTF8 = b"\x12\x05\x0a\x03\x0a\x01\xff" + b"\x0a\x01\xff"
"""Protobuf itself refuses names that are no UTF-8: of a role in a request, of a service in a health check."""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("messages", [(b"\xff" * 9,), (NO_UTF8,), ()])
async def test_a_call_without_a_message_that_can_be_read_is_refused_in_our_words(
    method: str, messages: tuple[bytes, ...]
) -> None:
    async with calling() as (service, channel, _):
        outcome = await ask(channel, Call(method, messages))

        assert outcome.status is grpc.StatusCode.INVALID_ARGUMENT
        assert "message" in outcome.detail and "DecodeError" not in outcome.detail
        assert not service.calls
        assert (await GenerationStub(channel).Generate(pb.GenerateRequest(prompt=b"x"))).text


@pytest.mark.parametrize("method", METHODS[:2])
@pytest.mark.parametrize("messages", [(b"\xff" * 9,), (b"x" * 5_000_000,), ()])
async def test_a_stranger_is_refused_before_the_message_is_read(method: str, messages: tuple[bytes, ...]) -> None:
    async with calling() as (service, channel, _):
        outcome = await ask(channel, Call(method, messages, (("polydraft-key", "wrong"),), Manner.OPEN_ENDED))

        assert outcome.status is grpc.StatusCode.UNAUTHENTICATED or outcome.is_cut_off
        assert not service.calls


@pytest.mark.parametrize("path", [b"/\xff\xfe", b"/polydraft.v1.Generation/Nothing", b"*"])
async def test_a_method_that_there_is_not_is_refused_and_serving_goes_on(path: bytes) -> None:
    async with serving() as (_, front, address), grpc.aio.insecure_channel(address) as channel:
        answer = await exchange(address, request(path, b"key", b""))

        assert b"Method not found!" in answer
        assert (await GenerationStub(channel).Generate(pb.GenerateRequest(prompt=b"x"))).text
        front.check_health()


async def test_a_front_that_takes_no_calls_any_more_is_not_healthy() -> None:
    async with serving() as (_, front, _):
        front.check_health()
        await front._server._server.shutdown(None)

        with pytest.raises(RuntimeError, match="server has ended"):
            front.check_health()


async def test_health_is_told_by_name() -> None:
    async with calling() as (_, channel, front):
        stub = health_pb2_grpc.HealthStub(channel)
        await front.set_health("drafter-de", True)
        await front.set_health("", False)

        drafter = await stub.Check(health_pb2.HealthCheckRequest(service="drafter-de"))
        overall = await stub.Check(health_pb2.HealthCheckRequest())
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Check(health_pb2.HealthCheckRequest(service="nobody"))

        assert drafter.status == health_pb2.HealthCheckResponse.SERVING
        assert overall.status == health_pb2.HealthCheckResponse.NOT_SERVING
