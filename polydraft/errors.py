"""What a call can fail with. The cluster raises the same errors under the same codes.

PolydraftError
    InvalidRequest          a field has a value that cannot be served
        UnsupportedLanguage the language tag is not configured
        UnknownDrafter      `speculation` names no configured drafter
        ContextTooLong      prompt and answer do not fit the context
        NotImplementedYet   a declared field that is not built
    Unauthenticated         the tenant is unknown
    Overloaded              come back later
    Unavailable             no server answers, or none can serve this now
    TargetChanged           the answer cannot go on under the same numerics
    Cancelled               the call was cancelled
    DeadlineExceeded        the call's own deadline passed
    InternalError           a fault of the cluster
"""

from __future__ import annotations


class PolydraftError(Exception):
    """Base of everything that a call raises; `str()` of it is the message."""

    code = "INTERNAL"
    """Name of the value of `ErrorCode` in protos/v1/types.proto, without its prefix."""


class InvalidRequest(PolydraftError):
    code = "INVALID_REQUEST"


class UnsupportedLanguage(InvalidRequest):
    code = "UNSUPPORTED_LANGUAGE"


class UnknownDrafter(InvalidRequest):
    code = "UNKNOWN_DRAFTER"


class ContextTooLong(InvalidRequest):
    code = "CONTEXT_TOO_LONG"


class NotImplementedYet(InvalidRequest):
    code = "NOT_IMPLEMENTED"


class Unauthenticated(PolydraftError):
    code = "UNAUTHENTICATED"


class Overloaded(PolydraftError):
    code = "OVERLOADED"
    retry_after_s: float | None = None
    """When to come back, if the cluster said so."""


class Unavailable(PolydraftError):
    code = "UNAVAILABLE"


class TargetChanged(PolydraftError):
    code = "TARGET_CHANGED"


class Cancelled(PolydraftError):
    code = "CANCELLED"


class DeadlineExceeded(PolydraftError):
    code = "DEADLINE"


class InternalError(PolydraftError):
    code = "INTERNAL"


ERRORS: dict[str, type[PolydraftError]] = {
    error.code: error
    for error in (
        InvalidRequest,
        UnsupportedLanguage,
        UnknownDrafter,
        ContextTooLong,
        NotImplementedYet,
        Unauthenticated,
        Overloaded,
        Unavailable,
        TargetChanged,
        Cancelled,
        InternalError,
        DeadlineExceeded,
    )
}
"""The error of each code."""
