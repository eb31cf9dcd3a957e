"""One table between our errors, their codes on the wire and gRPC's statuses."""

from __future__ import annotations

import math

import grpc

from cluster import errors
from protos.v1 import types_pb2

ERROR_METADATA = "polydraft-error"
"""Trailing metadata that carries the code's name."""
RETRY_METADATA = "grpc-retry-pushback-ms"
"""Trailing metadata of Overloaded: when to come back, under the name that gRPC has for it (its proposal A6)."""

_PREFIX = "ERROR_CODE_"
_STATUS: dict[type[errors.PolydraftError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnsupportedLanguage: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownDrafter: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ContextTooLong: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotImplementedYet: grpc.StatusCode.UNIMPLEMENTED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.TargetChanged: grpc.StatusCode.ABORTED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.InternalError: grpc.StatusCode.INTERNAL,
}
_BY_CODE = {error.code: error for error in _STATUS}


def status_of(error: errors.PolydraftError) -> grpc.StatusCode:
    """The status that a call failing with `error` ends with."""
    return _STATUS.get(type(error), grpc.StatusCode.INTERNAL)


def trailing_metadata(error: errors.PolydraftError) -> tuple[tuple[str, str], ...]:
    """What tells clients the code, which is finer than the status, and when to come back."""
    code = (ERROR_METADATA, error.code)
    if isinstance(error, errors.Overloaded):
        return (code, (RETRY_METADATA, str(math.ceil(error.retry_after_s * 1_000))))
    return (code,)


def code_to_pb(error: errors.PolydraftError | None) -> str:
    """Name of the enum value of an error, which protobuf takes for the value."""
    return _PREFIX + ("UNSPECIFIED" if error is None else error.code)


def error_from_pb(code: types_pb2.ErrorCode, message: str) -> errors.PolydraftError | None:
    """The error that a peer told, None if none; a code of a later version is an internal error."""
    if code == types_pb2.ERROR_CODE_UNSPECIFIED:
        return None
    if code not in types_pb2.ErrorCode.values():
        return errors.InternalError("a replica failed with an unknown code")
    name = types_pb2.ErrorCode.Name(code).removeprefix(_PREFIX)
    return _BY_CODE.get(name, errors.InternalError)(message)
