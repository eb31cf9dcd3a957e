"""Sections of the configuration about logs and traces."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class LoggingConfig(_Section):
    """Of all processes of the cluster."""

    format: Literal["text", "json"] = "text"
    """`json`: an object a line, with the request's id, tenant and language where a line is about one."""
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """INFO tells each call when it ends, and replicas that come and go."""


class TracingConfig(_Section):
    """Spans of calls, sent by OTLP over gRPC. Needs the extra `polydraft[tracing]`."""

    endpoint: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+$")] | None = None
    """Such as http://127.0.0.1:4317; absent: nothing is traced, and nothing of it is imported."""
    share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of the calls without a `traceparent`; one that has it decides by itself."""
    rounds: bool = False
    """Whether each round is an event of its request's span."""
