"""What every call passes before its servicer: who calls, what came, and what an exception tells the caller.

Left to itself grpc.aio reads and decodes a call's message before anybody asks who sends it, tells callers the Python
class of whatever is raised, and never ends a call that ended without a message. So all methods are served as streams
of bytes, which are read and decoded here.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from cluster.errors import InternalError, InvalidRequest, PolydraftError
from deployments.status import status_of, trailing_metadata

logger = logging.getLogger(__name__)

Metadata = Mapping[str, str | bytes]
Admit = Callable[[str, Metadata], None]
"""Given a method's path and a call's metadata; raises PolydraftError for callers who may not call it."""
_Context = grpc.aio.ServicerContext[bytes, Any]
_Handler = Any  # its type stubs know only methods that are not asynchronous


class Guard(grpc.aio.ServerInterceptor):
    """In front of all methods of a server."""

    def __init__(self, admit: Admit | None = None) -> None:
        """Without `admit` servicers judge their callers themselves, and before they read."""
        self._admit = admit

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]], details: grpc.HandlerCallDetails
    ) -> _Handler:
        handler = await continuation(details)
        if handler is None:  # there is no such method; grpc says so
            return None

        async def serve(frames: AsyncIterator[bytes], context: _Context) -> None:
            try:
                if self._admit is not None:
                    self._admit(details.method, dict(context.invocation_metadata() or ()))
                await _serve(handler, frames, context)
            except PolydraftError as error:
                await _abort(context, error)
            except DecodeError:
                await _abort(context, InvalidRequest("a message cannot be decoded; send what protos/v1 declares"))
            except grpc.aio.BaseError:  # the servicer has aborted, or the caller has gone
                raise
            except Exception:
                logger.exception("%s failed", details.method)
                await _abort(context, InternalError("internal error; the log has the details"))

        return grpc.stream_stream_rpc_method_handler(serve, None, handler.response_serializer)


async def _abort(context: _Context, error: PolydraftError) -> None:
    await context.abort(status_of(error), error.message, trailing_metadata(error))


async def _serve(handler: _Handler, frames: AsyncIterator[bytes], context: _Context) -> None:
    """Call the servicer's method, of whatever kind it is."""
    messages = _decoded(handler, frames)
    if handler.request_streaming:
        async with aclosing(handler.stream_stream(messages, context)) as responses:
            async for response in responses:
                await context.write(response)
        return
    request = await anext(messages, None)
    if request is None:
        raise InvalidRequest("the call has no message; send one")
    if handler.response_streaming:
        await handler.unary_stream(request, context)  # it writes by itself
    else:
        await context.write(await handler.unary_unary(request, context))


async def _decoded(handler: _Handler, frames: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for data in frames:
        yield handler.request_deserializer(data)
