"""A call's spans from both tiers meet at a collector, under one trace id; without an endpoint nobody traces."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

from benchmarks.fuzz.one_process import TOKEN, LocalDirectory, running_replica, running_router
from cluster.config_file import load
from deployments.draft_service import DraftService
from deployments.target_service import TargetService
from protos.v1 import generate_pb2 as pb
from protos.v1.generate_pb2_grpc import GenerationStub
from tests.conftest import ROOT

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PROMPT = b"Translate German to English: Wo ist der Bahnhof?\n"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that come by OTLP."""

    def __init__(self) -> None:
        self.spans: list[trace_pb2.Span] = []

    async def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self.spans += [span for one in request.resource_spans for of in one.scope_spans for span in of.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    async def complete(self, num_calls: int) -> None:
        """Wait until so many calls and all that belongs to them have come."""
        async with asyncio.timeout(20):
            while len(self.named("generate")) < num_calls or not self._is_whole():
                await asyncio.sleep(0.05)

    def _is_whole(self) -> bool:
        sessions = len(self.named("target session"))
        return sessions >= len(self.named("generate")) and bool(self.named("drafter session"))

    def named(self, name: str) -> list[trace_pb2.Span]:
        return [span for span in self.spans if span.name == name]


@asynccontextmanager
async def traced_cluster(share: float) -> AsyncIterator[tuple[Collector, str]]:
    """A collector, and the address of a router with a target and a drafter that send it their spans."""
    collector, server = Collector(), grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    overrides = [f"tracing.endpoint=http://127.0.0.1:{port}", f"tracing.share={share}", "tracing.rounds=true"]
    config = load(ROOT / "configs" / "local.yaml", [*overrides, "target.draft_lengths=fixed"])
    config = config.model_copy(update={"drafters": {"de": config.drafters["de"]}})
    async with AsyncExitStack() as stack:
        directory = LocalDirectory()
        for name, make in (
            ("target", partial(TargetService, config, "target-1", TOKEN)),
            ("de", partial(DraftService, config, "de", "de-1", TOKEN)),
        ):
            await stack.enter_async_context(running_replica(make(), name, directory))
        address = await stack.enter_async_context(running_router(config, directory))
        yield collector, address
    await server.stop(0)


async def _ask(address: str, traceparent: str = "") -> pb.GenerateResponse:
    async with grpc.aio.insecure_channel(address) as channel:
        metadata = [("traceparent", traceparent)] if traceparent else []
        request = pb.GenerateRequest(prompt=PROMPT, max_tokens=24)
        async with asyncio.timeout(60):
            while True:  # until the router has found target and drafter
                answer: pb.GenerateResponse = await GenerationStub(channel).Generate(request, metadata=metadata)
                if answer.finished.speculation.drafted:
                    return answer
                await asyncio.sleep(0.1)


def _attributes(span: trace_pb2.Span) -> dict[str, Any]:
    return {item.key: item.value for item in span.attributes}


async def test_spans_of_all_tiers_belong_to_the_callers_trace() -> None:
    async with traced_cluster(share=0.0) as (collector, address):
        await _ask(address)  # nobody asked for its trace
        answer = await _ask(address, f"00-{TRACE_ID}-{PARENT_ID}-01")
        await _ask(address, f"00-{TRACE_ID}-{PARENT_ID}-00")  # its caller does not want it
        await collector.complete(1)

    assert {span.trace_id.hex() for span in collector.spans} == {TRACE_ID}
    call = next(span for span in collector.named("generate") if _attributes(span)["polydraft.drafted_tokens"].int_value)
    assert call.parent_span_id.hex() == PARENT_ID
    children = {span.name for span in collector.spans if span.parent_span_id == call.span_id}
    assert children == {"prepare", "prefill", "target session", "drafter session"}
    attributes = _attributes(call)
    assert attributes["polydraft.request_id"].string_value == answer.started.request_id
    assert attributes["polydraft.code"].string_value == "OK"
    assert [event.name for event in call.events].count("round") == answer.finished.speculation.rounds


async def test_calls_begin_traces_of_their_own_and_headers_that_are_none_do_no_harm() -> None:
    async with traced_cluster(share=1.0) as (collector, address):
        await _ask(address, "00-xyz-xyz-01")
        await _ask(address, "no trace")
        await collector.complete(2)

    calls = collector.named("generate")
    assert len(calls) >= 2 and len({span.trace_id for span in calls}) == len(calls)
    assert not any(span.parent_span_id for span in calls)
    for call in calls:
        traced = [span.name for span in collector.spans if span.trace_id == call.trace_id]
        assert "target session" in traced


def test_nothing_is_imported_while_tracing_is_off() -> None:
    program = "import sys, deployments.router, deployments.serve;"
    program += "sys.exit('deployments.tracing' in sys.modules or 'opentelemetry.exporter.otlp' in sys.modules)"

    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
