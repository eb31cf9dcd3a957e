"""Sections of the configuration about logs, traces and the console."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from cluster.keys import MAX_HASHES
from cluster.schema import KeyHashes, Section


class LoggingConfig(Section):
    """Of all processes of the cluster."""

    format: Literal["text", "json"] = "text"
    """`json`: an object a line, with the request's id, tenant and language where a line is about one."""
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """INFO tells each call when it ends, and replicas that come and go."""


class TracingConfig(Section):
    """Spans of calls, sent by OTLP over gRPC. Needs the extra `polydraft[tracing]`."""

    endpoint: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+$")] | None = None
    """Such as http://127.0.0.1:4317; absent: nothing is traced, and nothing of it is imported."""
    share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of the calls without a `traceparent`; one that has it decides by itself."""
    rounds: bool = False
    """Whether each round is an event of its request's span."""


class ConsoleConfig(Section):
    """The page at /console, beside the OpenAI API."""

    enabled: bool = True
    operator_keys: Annotated[KeyHashes, Field(max_length=MAX_HASHES)] = ()
    """Hashes, as of a tenant's keys: who carries such a key sees the figures of all tenants, languages and tiers.
    Absent: everybody does while no tenant has a key, and nobody otherwise. Tenants always see their own."""
