"""A request as it arrives, and the checks that make it one that can be served. Every refusal names the field."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.chat import ChatTurn
from cluster.config import LimitsConfig, TenantConfig
from cluster.errors import ContextTooLong, InvalidRequest, NotImplementedYet, printable
from cluster.messages import Sampling
from cluster.text import Tokenizer

MAX_STOP_BYTES = 1_024
MAX_DRAFT_TOKENS = 64
MAX_LOGPROBS = 20
MAX_NAME_LENGTH = 64
"""Of tags, names and ids, in characters."""
MAX_ROUNDS = 1 << 31
_ROLE = re.compile(r"[a-z_]{1,32}")
"""Templates write roles beside their special tokens, so a role is a plain word."""
_MAX_UINT64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class RawResume:
    """What a client holds of an interrupted answer."""

    token_ids: Sequence[int] = ()
    effective_seed: int = 0
    numerics_id: str = ""
    next_round: int = 0
    text_bytes: int = 0


class RawTurn(Protocol):
    """One chat message, undecoded."""

    @property
    def role(self) -> str: ...

    @property
    def content(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class RawRequest:
    """`GenerateRequest` of the public contract, unchecked; sequences are as they arrived, uncopied. None: absent."""

    prompt: bytes | None = None
    chat: Sequence[RawTurn] | None = None
    language: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int = 0
    top_p: float | None = None
    seed: int | None = None
    stop: Sequence[bytes] = ()
    time_budget_s: float = 0.0
    speculation: str = ""
    max_draft_tokens: int | None = None
    resume: RawResume | None = None
    logprobs: int | None = None
    prompt_ids: Sequence[int] | None = None
    """A prompt that is tokens already, in place of `prompt`."""
    not_built: tuple[str, ...] = ()
    """Names of declared fields that are set although nothing serves them yet."""


@dataclass(frozen=True, slots=True)
class DrafterChoice:
    """How a request is drafted for: by a drafter, or not at all."""

    name: str | None = None
    is_local: bool = False
    """Whether it runs inside the target."""
    max_draft_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Resume:
    """Tokens that the answer begins with, and what it must go on with."""

    token_ids: tuple[int, ...]
    numerics_id: str
    next_round: int
    text_bytes: int = 0
    """Of UTF-8 that the caller has of the answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that can be served: everything that the session loop needs of it."""

    request_id: str
    tenant: str
    weight: float
    """Of the tenant."""
    language: str
    """Of the input; "und" if unknown."""
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    seed: int
    max_tokens: int
    """Length of the whole answer, capped by the context."""
    stop: tuple[str, ...]
    time_budget_s: float
    """0: none."""
    drafting: DrafterChoice
    """At first; where several drafters serve the language it may change."""
    resume: Resume | None = None
    correction_top_k: int = 0
    """Likely tokens that the drafter hears of where the target overrules it; 0: it does not learn from this."""
    logprobs: int | None = None
    """Log-probabilities are told of each token and of so many likeliest ones beside it; None: of none."""
    traceparent: str = ""
    """W3C trace context of the request's span, for the replicas; empty: it is not traced."""
    shadows: tuple[str, ...] = ()
    """Drafters in the target's step that are scored on the answer whoever drafts for it."""
    keeps_text: bool = False
    """Whether drafters in the target's step may draft for later requests of the tenant from this answer."""


def longest_answer(limits: LimitsConfig, tenant: TenantConfig) -> int:
    """Tokens that this tenant may ask for."""
    return min(limits.max_tokens, tenant.max_tokens or limits.max_tokens)


def check_fields(raw: RawRequest, limits: LimitsConfig, longest: int) -> None:
    """Refuse values that no request may have. Needs neither model nor tokenizer."""
    _check_sizes(raw, limits)
    if raw.not_built:
        raise NotImplementedYet(f"{', '.join(raw.not_built)}: declared but not built yet; leave it unset")
    if raw.max_tokens is not None and not 1 <= raw.max_tokens <= longest:
        raise InvalidRequest(f"max_tokens: found {raw.max_tokens}; give 1 to {longest}")
    if raw.temperature is not None and not (math.isfinite(raw.temperature) and raw.temperature >= 0):
        raise InvalidRequest(f"sampling.temperature: found {raw.temperature}; give a finite number of at least 0")
    if raw.top_p is not None and not 0 < raw.top_p <= 1:
        raise InvalidRequest(f"sampling.top_p: found {raw.top_p}; give a number above 0 and up to 1")
    if not (math.isfinite(raw.time_budget_s) and raw.time_budget_s >= 0):
        raise InvalidRequest(f"time_budget_s: found {raw.time_budget_s}; give seconds, 0 for no limit")
    if raw.max_draft_tokens is not None and not 1 <= raw.max_draft_tokens <= MAX_DRAFT_TOKENS:
        raise InvalidRequest(
            f"max_draft_tokens: found {raw.max_draft_tokens}; give 1 to {MAX_DRAFT_TOKENS}, or speculation 'off'"
        )
    if raw.logprobs is not None and not 0 <= raw.logprobs <= MAX_LOGPROBS:
        raise InvalidRequest(f"logprobs: found {raw.logprobs}; give 0 to {MAX_LOGPROBS} likeliest tokens")
    if raw.resume is not None and raw.resume.next_round > MAX_ROUNDS:
        raise InvalidRequest(f"resume.next_round: found {raw.resume.next_round}; repeat what the last Chunk told")


def _check_sizes(raw: RawRequest, limits: LimitsConfig) -> None:
    """Refuse what is enormous before anything of it is looked at or copied."""
    resume = raw.resume or RawResume()
    for field, number, most in (
        ("chat.messages", len(raw.chat or ()), limits.max_chat_messages),
        ("stop", len(raw.stop), limits.max_stop_strings),
        ("resume.token_ids", len(resume.token_ids), limits.max_tokens),
    ):
        if number > most:
            raise InvalidRequest(f"{field}: found {number}; give at most {most}")
    for field, name in (
        ("language", raw.language),
        ("speculation", raw.speculation),
        ("resume.numerics_id", resume.numerics_id),
    ):
        if len(name) > MAX_NAME_LENGTH:
            raise InvalidRequest(f"{field}: found {len(name)} characters; give at most {MAX_NAME_LENGTH}")


def sampling_of(raw: RawRequest) -> Sampling:
    """The sampling rule with its defaults."""
    return Sampling(
        temperature=0.0 if raw.temperature is None else raw.temperature,
        top_k=raw.top_k,
        top_p=1.0 if raw.top_p is None else raw.top_p,
    )


def stop_strings(raw: RawRequest) -> tuple[str, ...]:
    """Decoded stop strings."""
    for number, stop in enumerate(raw.stop):
        if not 1 <= len(stop) <= MAX_STOP_BYTES:
            raise InvalidRequest(f"stop[{number}]: a string of {len(stop)} bytes; give 1 to {MAX_STOP_BYTES} bytes")
    return tuple(_decode(f"stop[{number}]", stop) for number, stop in enumerate(raw.stop))


def content_of(raw: RawRequest, limits: LimitsConfig) -> str | list[ChatTurn]:
    """The prompt, or the chat's messages, decoded and of bearable size."""
    contents = [turn.content for turn in raw.chat] if raw.chat is not None else [raw.prompt or b""]
    size = sum(map(len, contents))
    field = "prompt" if raw.chat is None else "chat"
    if size > limits.max_prompt_bytes:
        raise InvalidRequest(f"{field}: {size} bytes; at most {limits.max_prompt_bytes} are served")
    if size == 0:
        raise InvalidRequest(f"{field}: empty; send some text")
    if raw.chat is None:
        return _decode("prompt", contents[0])
    return [
        ChatTurn(_checked_role(number, turn.role), _decode(f"chat.messages[{number}].content", content))
        for number, (turn, content) in enumerate(zip(raw.chat, contents, strict=True))
    ]


def _checked_role(number: int, role: str) -> str:
    if not _ROLE.fullmatch(role):
        raise InvalidRequest(
            f"chat.messages[{number}].role: found '{printable(role, MAX_NAME_LENGTH)}'; "
            "give a role such as 'user', of at most 32 lower-case letters and underscores"
        )
    return role


def ids_of(raw: RawRequest, vocab_size: int, max_context: int) -> tuple[int, ...] | None:
    """A prompt that came as tokens, or None."""
    ids = raw.prompt_ids
    if ids is None:
        return None
    if not ids:
        raise InvalidRequest("prompt: no tokens; send some")
    _check_room(len(ids), max_context)
    if outside := [token for token in ids if not 0 <= token < vocab_size]:
        raise InvalidRequest(f"prompt: token id {outside[0]} is outside the vocabulary of {vocab_size}")
    return tuple(ids)


def plain_text(content: str | list[ChatTurn]) -> str:
    """What language detection looks at."""
    return content if isinstance(content, str) else "\n".join(turn.content for turn in content)


def encode(content: str | list[ChatTurn], tokenizer: Tokenizer, max_context: int) -> tuple[int, ...]:
    """Prompt ids; ContextTooLong when no token of an answer fits after them."""
    ids = tokenizer.encode_prompt(content) if isinstance(content, str) else tokenizer.encode_chat(content)
    if not ids:
        raise InvalidRequest("prompt: no tokens; send some text")
    _check_room(len(ids), max_context)
    return tuple(ids)


def _check_room(num_tokens: int, max_context: int) -> None:
    if num_tokens >= max_context:
        raise ContextTooLong(
            f"prompt: {num_tokens} tokens; the context holds {max_context}, answer included; shorten it"
        )


def answer_length(raw: RawRequest, limits: LimitsConfig, longest: int, num_prompt_tokens: int, max_context: int) -> int:
    """Tokens that the answer may have: what was asked for, as far as the context reaches."""
    wanted = min(limits.default_max_tokens, longest) if raw.max_tokens is None else raw.max_tokens
    return min(wanted, max_context - num_prompt_tokens)


def check_resume(raw: RawRequest, max_tokens: int, vocab_size: int) -> Resume | None:
    """The resumed beginning of the answer, or None."""
    resume = raw.resume
    if resume is None:
        return None
    if not resume.numerics_id:
        raise InvalidRequest("resume.numerics_id: missing; repeat what the first Started told")
    # Seeds drawn here are never 0, so 0 is only believed when the request itself asked for it.
    if resume.effective_seed == 0 and raw.seed != 0:
        raise InvalidRequest("resume.effective_seed: missing; repeat what the first Started told")
    if raw.seed is not None and raw.seed != resume.effective_seed:
        raise InvalidRequest(f"resume.effective_seed: {resume.effective_seed} differs from seed {raw.seed}; send one")
    if len(resume.token_ids) > max_tokens:
        raise InvalidRequest(f"resume.token_ids: {len(resume.token_ids)} tokens exceed the answer's {max_tokens}")
    if outside := [token for token in resume.token_ids if not 0 <= token < vocab_size]:
        raise InvalidRequest(f"resume.token_ids: {outside[0]} is outside the vocabulary of {vocab_size}")
    return Resume(tuple(resume.token_ids), resume.numerics_id, resume.next_round, resume.text_bytes)


def seed_of(raw: RawRequest, drawn: int) -> int:
    """The answer's seed: resumed, asked for, or `drawn` (which is not 0)."""
    if raw.resume is not None:
        return raw.resume.effective_seed
    return (drawn & _MAX_UINT64 or 1) if raw.seed is None else raw.seed


def _decode(field: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{field}: not valid UTF-8 at byte {error.start}; send UTF-8") from None
