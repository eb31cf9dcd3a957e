"""Refusals in OpenAI's form: a status and `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from cluster import errors

_INVALID = "invalid_request_error"
_FIELD = re.compile(r"([a-z_]+(?:\[\d+\]|\.[a-z_]+)*): ")
"""What a refusal of ours begins with."""
_OTHER_NAMES = (("sampling.", ""), ("chat.messages", "messages"), ("chat", "messages"))
"""Of fields, here and in OpenAI's API."""


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """What the caller gets instead of an answer."""

    status: int
    message: str
    type: str = _INVALID
    param: str | None = None
    code: str | None = None
    retry_after_s: float | None = None

    @property
    def body(self) -> dict[str, object]:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """The client waits as long before it tries again; in whole seconds, as all clients read them."""
        if self.retry_after_s is None:
            return {}
        return {"retry-after": str(max(math.ceil(self.retry_after_s), 1))}


class Refused(Exception):
    """A request that is answered by an error."""

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__(reply.message)
        self.reply = reply


def refusal(message: str, param: str | None = None, code: str | None = None, status: int = 400) -> Refused:
    """What is wrong with the request itself."""
    return Refused(ErrorReply(status, message, param=param, code=code))


def error_reply(error: errors.PolydraftError) -> ErrorReply:
    """How a failed call looks over HTTP."""
    message = error.message
    match error:
        case errors.ContextTooLong():
            return ErrorReply(400, message, param=_param(message), code="context_length_exceeded")
        case errors.NotImplementedYet():
            return ErrorReply(400, message, param=_param(message), code="unsupported_parameter")
        case errors.InvalidRequest():
            return ErrorReply(400, message, param=_param(message), code="invalid_value")
        case errors.Unauthenticated():
            return ErrorReply(
                401,
                "Incorrect API key provided: unknown tenant or wrong key; send 'Authorization: Bearer KEY' with the "
                "header 'polydraft-tenant', or 'Authorization: Bearer TENANT:KEY'",
                code="invalid_api_key",
            )
        case errors.Overloaded():
            return ErrorReply(
                429, message, "rate_limit_error", code="rate_limit_exceeded", retry_after_s=error.retry_after_s
            )
        case errors.Unavailable() | errors.TargetChanged():
            return ErrorReply(503, message, "server_error", code="unavailable", retry_after_s=1.0)
        case errors.DeadlineExceeded() | errors.Cancelled():
            return ErrorReply(408, message, "timeout_error", code="timeout")
        case _:
            return ErrorReply(500, message, "server_error", code="internal_error")


def _param(message: str) -> str | None:
    """The field that a refusal of ours names first, as OpenAI calls it."""
    found = _FIELD.match(message)
    if found is None:
        return None
    for ours, theirs in _OTHER_NAMES:
        if found[1].startswith(ours):
            return theirs + found[1].removeprefix(ours)
    return found[1]
