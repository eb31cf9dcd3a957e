"""Spans of calls and of sessions at replicas, by OpenTelemetry. Imported only where `tracing.endpoint` is set."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cluster.errors import Cancelled
from cluster.events import Event, Finished
from cluster.messages import Open, Verdict
from cluster.observing import OK, Unwatched, Watch
from cluster.observing_config import TracingConfig
from cluster.request import Request
from cluster.status import VERSION

_HEADER = "traceparent"
_SEND_MS = 1_000
_TIMEOUT_S = 5.0
_W3C = TraceContextTextMapPropagator()


class Spans:
    """One process as a source of spans."""

    def __init__(self, config: TracingConfig, process: str) -> None:
        assert config.endpoint is not None, "tracing is off"
        self._config = config
        resource = Resource.create(
            {"service.name": "polydraft", "service.version": VERSION, "service.instance.id": process}
        )
        self._provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(config.share)))
        exporter = OTLPSpanExporter(
            endpoint=config.endpoint, insecure=config.endpoint.startswith("http://"), timeout=_TIMEOUT_S
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_SEND_MS))
        self._tracer = self._provider.get_tracer("polydraft", VERSION)

    def stop(self) -> None:
        """Send what is left, without waiting: a collector that does not answer must hold nobody up."""
        threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True).start()

    # -- routers: an observer ------------------------------------------------------------------------------------

    def call(self, request_id: str, tenant: str, traceparent: str) -> Watch:
        attributes = {"polydraft.request_id": request_id, "polydraft.tenant": tenant}
        span = self._tracer.start_span(
            "generate", _context(traceparent), kind=trace.SpanKind.SERVER, attributes=attributes
        )
        return _CallSpans(self._tracer, span, rounds=self._config.rounds) if span.is_recording() else Unwatched()

    def refused(self, tenant: str, code: str) -> None:
        """Callers without a key leave no spans."""

    # -- replicas ------------------------------------------------------------------------------------------------

    def session(self, tier: str, opened: Open) -> SessionSpan | None:
        """Of a session that was opened; None: its request is not traced."""
        if not opened.traceparent:
            return None
        attributes: dict[str, str | int] = {
            "polydraft.request_id": opened.request_id,
            "polydraft.tenant": opened.tenant,
            "polydraft.sequence_tokens": len(opened.token_ids),
        }
        context = _context(opened.traceparent)
        return SessionSpan(self._tracer.start_span(f"{tier} session", context, attributes=attributes))


class SessionSpan:
    """While a replica holds a session."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def end(self, figures: Mapping[str, int]) -> None:
        self._span.set_attributes({f"polydraft.{name}": value for name, value in figures.items()})
        self._span.end()


class _CallSpans:
    """The spans of one call at its router."""

    def __init__(self, tracer: trace.Tracer, span: trace.Span, *, rounds: bool) -> None:
        self._tracer = tracer
        self._span = span
        self._within = trace.set_span_in_context(span)
        self._rounds = rounds
        self._part: trace.Span | None = tracer.start_span("prepare", self._within)
        """What goes on now, of the parts that have spans of their own."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, self._within)
        self.traceparent = carrier[_HEADER]

    def prepared(self, request: Request) -> None:
        self._end_part()
        self._span.set_attributes(
            {
                "polydraft.language": request.language,
                "polydraft.drafter": request.drafting.name or "off",
                "polydraft.prompt_tokens": len(request.prompt_ids),
            }
        )

    def drafts_with(self, drafter: str | None) -> None:
        self._span.add_event("drafter changed", {"polydraft.drafter": drafter or "off"})

    def opened(self, tier: str, replica_id: str) -> None:
        self._span.add_event(f"opened at {tier}", {"polydraft.replica": replica_id})
        if tier == "target":
            self._end_part()
            self._part = self._tracer.start_span("prefill", self._within, attributes={"polydraft.replica": replica_id})

    def committed(self, verdict: Verdict, *, is_prefill: bool) -> None:
        if is_prefill:
            self._end_part()
        elif self._rounds:
            figures = {"tokens": len(verdict.token_ids), "drafted": verdict.num_drafted}
            self._span.add_event("round", {**figures, "accepted": verdict.num_accepted, "late": verdict.late_draft})

    def lost(self, tier: str, replica_id: str) -> None:
        self._span.add_event(f"lost {tier}", {"polydraft.replica": replica_id})

    def wrote(self, event: Event) -> None:
        if isinstance(event, Finished):
            figures = event.figures
            self._span.set_attributes(
                {
                    "polydraft.finish_reason": event.finish_reason.value,
                    "polydraft.completion_tokens": event.completion_tokens,
                    "polydraft.rounds": figures.rounds,
                    "polydraft.drafted_tokens": figures.drafted,
                    "polydraft.accepted_tokens": figures.accepted,
                    "polydraft.failovers": figures.failovers,
                }
            )

    def ended(self, code: str) -> None:
        self._end_part()
        self._span.set_attribute("polydraft.code", code)
        if code not in (OK, Cancelled.code):
            self._span.set_status(trace.StatusCode.ERROR, code)
        self._span.end()

    def _end_part(self) -> None:
        if self._part is not None:
            self._part.end()
            self._part = None


def _context(traceparent: str) -> Context:
    """That of the caller; one that is no trace context counts as none."""
    return _W3C.extract({_HEADER: traceparent} if traceparent else {}, Context())
