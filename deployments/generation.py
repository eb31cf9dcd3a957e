"""The public service without a transport: both fronts are adapters of this."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from cluster.errors import InternalError, PolydraftError
from cluster.events import Event
from cluster.service import GenerationService
from deployments.public import request_from_pb
from protos.v1 import generate_pb2 as pb

logger = logging.getLogger(__name__)

TENANT_METADATA, KEY_METADATA = "polydraft-tenant", "polydraft-key"


class Generation:
    """Answers as events; whatever goes wrong becomes a PolydraftError that holds no internals."""

    def __init__(self, service: GenerationService) -> None:
        self._service = service

    def check_caller(self, metadata: Mapping[str, str | bytes]) -> None:
        """Unauthenticated if no tenant's key comes with the call."""
        self._service.check_caller(_text(metadata, TENANT_METADATA), _text(metadata, KEY_METADATA))

    async def answer(
        self, request: pb.GenerateRequest, metadata: Mapping[str, str | bytes]
    ) -> AsyncGenerator[Event, None]:
        """The events of one call."""
        request_id = uuid.uuid4().hex[:16]
        events = self._service.answer(
            request_from_pb(request),
            request_id=request_id,
            tenant_name=_text(metadata, TENANT_METADATA),
            key=_text(metadata, KEY_METADATA),
            traceparent=_text(metadata, "traceparent"),
        )
        try:
            async with aclosing(events):
                async for event in events:
                    yield event
        except PolydraftError:
            raise
        except Exception:
            logger.exception("request %s failed", request_id)
            raise InternalError(f"internal error; the log has the details under request id {request_id}") from None


def _text(metadata: Mapping[str, str | bytes], key: str) -> str:
    value = metadata.get(key, "")
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
