"""Whether there are spans: OpenTelemetry is imported only where the configuration asks for it."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from cluster.config import Config
from cluster.errors import ConfigError

if TYPE_CHECKING:
    from deployments.tracing import Spans

_EXPORTER = "opentelemetry.exporter.otlp.proto.grpc"


def spans_of(config: Config, process: str) -> list[Spans]:
    """The source of spans of this process; none while tracing is off."""
    if config.tracing.endpoint is None:
        return []
    from deployments.tracing import Spans

    return [Spans(config.tracing, process)]


def check_tracing(config: Config) -> None:
    """ConfigError if spans are wanted that could not be sent."""
    if config.tracing.endpoint is None:
        return
    try:
        found = importlib.util.find_spec(_EXPORTER)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ConfigError("tracing.endpoint: OpenTelemetry's exporter is missing; pip install 'polydraft[tracing]'")
