"""Errors that callers see. One table in `deployments/status.py` maps each to a gRPC status.

PolydraftError
    InvalidRequest          a field has a value that cannot be served
        UnsupportedLanguage
        UnknownDrafter
        ContextTooLong
        NotImplementedYet   a declared field that is not built
    Unauthenticated         the tenant is unknown
    Overloaded              come back later
    Unavailable             no target replica can serve this now
    TargetChanged           the answer cannot go on under the same numerics
    Cancelled               the caller went away
    DeadlineExceeded        the call's own deadline passed
    InternalError           a fault of ours; the message holds no internals
ConfigError                 the configuration file is wrong (never crosses the wire)
"""

from __future__ import annotations

MAX_QUOTED = 120


def printable(text: str, max_length: int = MAX_QUOTED) -> str:
    """A caller's text as it may stand in a message: cut, and control characters escaped."""
    cut = text if len(text) <= max_length else text[:max_length] + "..."
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in cut)


class PolydraftError(Exception):
    """Base of what a request can fail with. The message is for the caller: no path, pid, address or traceback."""

    code = "INTERNAL"
    """Name of the value of `ErrorCode` in protos/v1/types.proto, without its prefix."""

    @property
    def message(self) -> str:
        return str(self)


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

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """When to come back."""


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


CODES = (
    *(InvalidRequest.code, UnsupportedLanguage.code, UnknownDrafter.code, ContextTooLong.code, NotImplementedYet.code),
    *(Unauthenticated.code, Overloaded.code, Unavailable.code, TargetChanged.code),
    *(Cancelled.code, DeadlineExceeded.code, InternalError.code),
)
"""All that a call can end with."""


class ConfigError(ValueError):
    """The configuration is wrong: where, what was found, what to do."""
