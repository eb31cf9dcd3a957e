"""Between our types and the messages of protos/v1; nothing else in the client touches those."""

from __future__ import annotations

import codecs
from dataclasses import fields

import grpc

from polydraft.answers import (
    Chunk,
    DrafterUse,
    Event,
    Finished,
    FinishReason,
    Speculation,
    Started,
    TokenLogprobs,
    TokenSource,
    Usage,
)
from polydraft.errors import (
    ERRORS,
    Cancelled,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    NotImplementedYet,
    Overloaded,
    PolydraftError,
    TargetChanged,
    Unauthenticated,
    Unavailable,
)
from polydraft.options import GenerateOptions, Prompt
from protos.v1 import generate_pb2 as pb
from protos.v1 import types_pb2

ERROR_KEY = "polydraft-error"
"""Trailing metadata: the name of the `ErrorCode`, without its prefix. The status' details are the message."""
RETRY_KEY = "grpc-retry-pushback-ms"
"""Trailing metadata of Overloaded: when to come back."""
MAX_REQUEST_BYTES = 4 * 1024 * 1024
"""What the server's transport accepts."""

# What a status means that comes from the transport, not from our server. Its own text is not passed on: it names
# addresses and sockets.
_TRANSPORT_ERRORS: dict[grpc.StatusCode, tuple[type[PolydraftError], str]] = {
    grpc.StatusCode.UNAVAILABLE: (
        Unavailable,
        "no server answers; check the address, that the cluster is up and, under TLS, the certificates",
    ),
    grpc.StatusCode.CANCELLED: (Cancelled, "the call was cancelled"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (DeadlineExceeded, "the call's deadline passed; allow more time"),
    grpc.StatusCode.INVALID_ARGUMENT: (InvalidRequest, "the server refused the request"),
    grpc.StatusCode.UNIMPLEMENTED: (NotImplementedYet, "the server does not know this call; is it a router?"),
    grpc.StatusCode.UNAUTHENTICATED: (Unauthenticated, "the server does not know this tenant"),
    grpc.StatusCode.PERMISSION_DENIED: (Unauthenticated, "the server refused this tenant"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (Overloaded, "the server is over its limits; try again later"),
    grpc.StatusCode.ABORTED: (TargetChanged, "the answer cannot go on; ask again"),
}


def to_request(prompt: Prompt, options: GenerateOptions) -> pb.GenerateRequest:
    """The message of a call. Raises InvalidRequest for a value that the wire cannot carry."""
    sampling = types_pb2.Sampling(
        temperature=options.get("temperature"),
        top_k=_unsigned("top_k", options.get("top_k"), 32) or 0,
        top_p=options.get("top_p"),
    )
    request = pb.GenerateRequest(
        language=options.get("language") or "",
        max_tokens=_unsigned("max_tokens", options.get("max_tokens"), 32),
        sampling=sampling,
        seed=_unsigned("seed", options.get("seed"), 64),
        stop=[_to_bytes(text) for text in options.get("stop", ())],
        time_budget_s=options.get("time_budget_s") or 0.0,
        speculation=options.get("speculation") or "",
        max_draft_tokens=_unsigned("max_draft_tokens", options.get("max_draft_tokens"), 32),
        logprobs=_unsigned("logprobs", options.get("logprobs"), 32),
    )
    if isinstance(prompt, str | bytes):
        request.prompt = _to_bytes(prompt)
    else:
        messages = [pb.ChatMessage(role=message.role, content=_to_bytes(message.content)) for message in prompt]
        request.chat.CopyFrom(pb.ChatMessages(messages=messages))
    if request.ByteSize() > MAX_REQUEST_BYTES:
        raise InvalidRequest(f"the request has {request.ByteSize()} bytes; the limit is {MAX_REQUEST_BYTES}")
    return request


def to_event(event: pb.GenerateEvent, decoder: codecs.IncrementalDecoder) -> Event:
    """The typed event; `decoder` carries a character that chunks share."""
    match event.WhichOneof("event"):
        case "started":
            return _to_started(event.started)
        case "chunk":
            chunk = event.chunk
            return Chunk(
                first_token_index=chunk.first_token_index,
                token_ids=tuple(chunk.token_ids),
                text=decoder.decode(chunk.text),
                sources=tuple(_source(source) for source in chunk.sources),
                logprobs=tuple(map(_logprobs, chunk.logprobs)),
            )
        case "finished":
            return _to_finished(event.finished)
        case unknown:
            raise InternalError(f"the server sent an unknown event ({unknown}); update the client")


def to_error(error: grpc.aio.AioRpcError) -> PolydraftError:
    """The exception of a failed call."""
    code = error_code(error)
    if code in ERRORS:
        failure = ERRORS[code](error.details() or "the server gave no reason")
    else:
        kind, message = _TRANSPORT_ERRORS.get(error.code(), (InternalError, "the call failed inside the transport"))
        failure = kind(message)
    if isinstance(failure, Overloaded):
        failure.retry_after_s = _retry_after_s(error)
    return failure


def error_code(error: grpc.aio.AioRpcError) -> str:
    """Our server's own code, or "" if the status comes from the transport."""
    return _trailing(error, ERROR_KEY)


def _retry_after_s(error: grpc.aio.AioRpcError) -> float | None:
    milliseconds = _trailing(error, RETRY_KEY)
    return int(milliseconds) / 1_000 if milliseconds.isdecimal() else None


def _trailing(error: grpc.aio.AioRpcError, wanted: str) -> str:
    for key, value in error.trailing_metadata() or ():
        if key == wanted:
            return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    return ""


def _to_started(started: pb.Started) -> Started:
    return Started(
        request_id=started.request_id,
        effective_seed=started.effective_seed,
        target_id=started.target_id,
        numerics_id=started.numerics_id,
        language=started.language,
        drafter=started.drafter,
        prompt_tokens=started.prompt_tokens,
    )


def _to_finished(finished: pb.Finished) -> Finished:
    figures = finished.speculation
    name = types_pb2.FinishReason.Name(finished.finish_reason)
    try:
        reason = FinishReason(name.removeprefix("FINISH_REASON_").lower())
    except ValueError:  # a value of a later server
        reason = FinishReason.UNSPECIFIED
    return Finished(
        finish_reason=reason,
        usage=Usage(
            finished.usage.prompt_tokens, finished.usage.completion_tokens, finished.usage.cached_prompt_tokens
        ),
        speculation=Speculation(
            rounds=figures.rounds,
            drafted=figures.drafted,
            accepted=figures.accepted,
            late_drafts=figures.late_drafts,
            failovers=figures.failovers,
            drafter_version=figures.drafter_version,
            drafters=tuple(map(_drafter_use, figures.drafters)),
            drafter_changes=figures.drafter_changes,
        ),
    )


def _drafter_use(use: types_pb2.DrafterUse) -> DrafterUse:
    return DrafterUse(**{field.name: getattr(use, field.name) for field in fields(DrafterUse)})


def _logprobs(logprobs: types_pb2.TokenLogprobs) -> TokenLogprobs:
    return TokenLogprobs(logprobs.logprob, tuple(zip(logprobs.top_ids, logprobs.top_logprobs, strict=False)))


def _source(source: types_pb2.TokenSource) -> TokenSource:
    names = {types_pb2.TOKEN_SOURCE_TARGET: TokenSource.TARGET, types_pb2.TOKEN_SOURCE_DRAFTER: TokenSource.DRAFTER}
    return names.get(source, TokenSource.UNSPECIFIED)


def _to_bytes(text: str | bytes) -> bytes:
    # Surrogates stand for bytes that were no UTF-8, such as a terminal's: the server refuses them with a reason.
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def _unsigned(name: str, value: int | None, bits: int) -> int | None:
    if value is not None and not 0 <= value < 1 << bits:
        raise InvalidRequest(f"{name} is {value}; give a whole number from 0 to {(1 << bits) - 1}")
    return value
