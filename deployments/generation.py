"""The public service without a transport: both fronts are adapters of this."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from cluster.config import Config
from cluster.errors import InternalError, PolydraftError
from cluster.events import Event
from cluster.request import RawRequest
from cluster.service import GenerationService
from cluster.tenants import Tenant
from deployments.public import request_from_pb
from protos.v1 import generate_pb2 as pb

logger = logging.getLogger(__name__)

TENANT_METADATA, KEY_METADATA = "polydraft-tenant", "polydraft-key"
TRACE_METADATA = "traceparent"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a call says it comes from; empty names are the default tenant's."""

    tenant: str
    key: str
    traceparent: str = ""
    """W3C trace context of the caller's span, if it has one."""


class Generation:
    """Answers as events; whatever goes wrong becomes a PolydraftError that holds no internals."""

    def __init__(self, service: GenerationService) -> None:
        self._service = service

    @property
    def config(self) -> Config:
        """With the tenants that there are now."""
        return self._service.config

    def check_caller(self, metadata: Mapping[str, str | bytes]) -> None:
        """Unauthenticated if no tenant's key comes with the call."""
        self.check(_caller(metadata))

    def check(self, caller: Caller) -> Tenant:
        """Unauthenticated if the key is not the tenant's."""
        return self._service.check_caller(caller.tenant, caller.key)

    def answer(self, request: pb.GenerateRequest, metadata: Mapping[str, str | bytes]) -> AsyncGenerator[Event, None]:
        """The events of one call."""
        return self.answer_raw(request_from_pb(request), _caller(metadata))

    async def answer_raw(self, raw: RawRequest, caller: Caller) -> AsyncGenerator[Event, None]:
        """The events of one answer."""
        request_id = uuid.uuid4().hex[:16]
        events = self._service.answer(
            raw, request_id=request_id, tenant_name=caller.tenant, key=caller.key, traceparent=caller.traceparent
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


def _caller(metadata: Mapping[str, str | bytes]) -> Caller:
    return Caller(*(_text(metadata, key) for key in (TENANT_METADATA, KEY_METADATA, TRACE_METADATA)))


def _text(metadata: Mapping[str, str | bytes], key: str) -> str:
    value = metadata.get(key, "")
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
