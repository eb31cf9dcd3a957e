"""Bodies of `/v1/completions` and `/v1/chat/completions`, checked: every refusal names the field.

A field that OpenAI has and we do not serve is refused unless it has the value that means nothing; a field that nobody
knows is refused as OpenAI does. `null` means absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, from_json

from cluster.errors import printable
from cluster.openai.errors import Refused, refusal

MAX_CHOICES = 128
"""Of one request: prompts times `n`."""
MAX_COMPLETION_LOGPROBS = 5
MAX_CHAT_LOGPROBS = 20

_IGNORED = frozenset({"user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "metadata"})
"""Labels for OpenAI's own bookkeeping; they change no answer."""
_NOT_SERVED: Mapping[str, tuple[object, ...]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    # completions
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    # chat
    "audio": (),
    "function_call": ("none",),
    "functions": ([],),
    "modalities": (["text"],),
    "moderation": (),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "verbosity": (),
    "web_search_options": (),
}
"""Fields of OpenAI's that nothing here serves, with the values that ask for nothing."""

Prompts = tuple[str | tuple[int, ...], ...]
B = TypeVar("B", bound="_Body")


def _prompts(value: object) -> Prompts:
    """A text, texts, a prompt's token ids, or several prompts' ids."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and value:
        if all(isinstance(one, str) for one in value):
            return tuple(value)
        if _are_ids(value):
            return (tuple(value),)
        if all(isinstance(one, list) and one and _are_ids(one) for one in value):
            return tuple(map(tuple, value))
    raise ValueError("expected a string, an array of strings, of token ids, or of arrays of token ids, none empty")


def _are_ids(value: list[Any]) -> bool:
    return all(type(one) is int for one in value)


def _stops(value: object) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(one, str) for one in stops):
        raise ValueError("expected a string or an array of strings")
    return tuple(stops)


def _content(value: object) -> str:
    """A text, or text parts, a line each."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError("expected a string or an array of parts with type 'text'")
    texts = []
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            raise ValueError(f"parts of type '{printable(str(kind))}' are not served; send parts with type 'text'")
        if set(part) != {"type", "text"} or not isinstance(part["text"], str):
            raise ValueError("a text part has 'type' and 'text', a string, and nothing else")
        texts.append(part["text"])
    return "\n".join(texts)


def _without_nulls(value: object) -> object:
    return {name: one for name, one in value.items() if one is not None} if isinstance(value, dict) else value


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: object) -> object:
        return _without_nulls(value)


class StreamOptions(_Model):
    include_usage: bool = False
    include_obfuscation: bool = False
    """Padding against who sees the lengths of encrypted messages; none is added here."""


class ChatMessage(_Model):
    role: str
    content: Annotated[str, BeforeValidator(_content)]


class _Body(_Model):
    """What both have."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1, le=(1 << 32) - 1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 64)] | None = None
    stop: Annotated[tuple[str, ...], BeforeValidator(_stops)] = ()

    # Ours, by the names of `GenerateRequest` in protos/v1/generate.proto.
    language: str = ""
    speculation: str = ""
    max_draft_tokens: int | None = None
    time_budget_s: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    top_k: Annotated[int, Field(ge=0, le=(1 << 32) - 1)] = 0

    token_sources: bool = False
    """Ours alone: tell of each token who wrote it."""

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def answer_tokens(self) -> int | None:
        """The longest answer; None: as the configuration says."""
        return self.max_tokens

    @property
    def top_logprobs(self) -> int | None:
        """Likeliest tokens that are told beside each; None: no log-probabilities."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only allowed when 'stream' is true")
        return self


class CompletionBody(_Body):
    """Of `/v1/completions`."""

    prompt: Annotated[Any, BeforeValidator(_prompts)]
    logprobs: Annotated[int, Field(ge=0, le=MAX_COMPLETION_LOGPROBS)] | None = None

    @property
    def prompts(self) -> Prompts:
        found: Prompts = self.prompt
        return found

    @property
    def answer_tokens(self) -> int | None:
        return self.max_tokens or 16  # OpenAI's own default

    @property
    def top_logprobs(self) -> int | None:
        return self.logprobs

    @model_validator(mode="after")
    def _check_choices(self) -> Self:
        if (found := len(self.prompts) * self.n) > MAX_CHOICES:
            raise ValueError(f"prompt: {found} answers, prompts times 'n'; ask for at most {MAX_CHOICES} at once")
        return self


class ChatBody(_Body):
    """Of `/v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=(1 << 32) - 1)] | None = None
    logprobs: bool = False
    told_logprobs: Annotated[int | None, Field(ge=0, le=MAX_CHAT_LOGPROBS, alias="top_logprobs")] = None

    @property
    def answer_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def top_logprobs(self) -> int | None:
        return self.told_logprobs or 0 if self.logprobs else None

    @model_validator(mode="after")
    def _check_logprobs(self) -> Self:
        if self.told_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs: needs 'logprobs' to be true")
        if None not in (self.max_tokens, self.max_completion_tokens):
            raise ValueError("max_tokens: 'max_completion_tokens' is set as well; send one of them")
        return self


def read_body(kind: type[B], data: bytes) -> B:
    """The body; Refused if it is none, or asks for what is not served."""
    try:
        fields = from_json(data, allow_inf_nan=False)
    except ValueError:
        raise refusal("We could not parse the JSON body of your request: it is not valid JSON.") from None
    if not isinstance(fields, dict):
        raise refusal("The JSON body of a request must be an object.", code="invalid_type")
    try:
        return kind.model_validate({name: fields[name] for name in fields if _is_served(name, fields[name], kind)})
    except ValidationError as error:
        raise _refusal_of(error.errors(include_url=False, include_input=False)[0]) from None


def _is_served(name: str, value: object, kind: type[_Body]) -> bool:
    """Whether a field is for us to look at; Refused if it is OpenAI's and asks for something."""
    if name in _IGNORED or value is None:
        return False
    if name not in _NOT_SERVED:
        return True
    if value not in _NOT_SERVED[name]:
        raise refusal(
            f"Unsupported parameter: '{name}' is not served here; leave it out.", name, "unsupported_parameter"
        )
    return False


def _refusal_of(error: ErrorDetails) -> Refused:
    """The first thing that is wrong."""
    param = _path(error["loc"])
    match error["type"]:
        case "missing":
            return refusal(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
        case "extra_forbidden":
            return refusal(f"Unknown parameter: '{param}'.", param, "unknown_parameter")
        case "value_error":
            reason = str(error["ctx"]["error"])
            if not param:  # of fields together: the reason names the first
                param, _, reason = reason.partition(": ")
            return refusal(f"Invalid value for '{param}': {reason}.", param, "invalid_value")
        case kind:
            code = "invalid_type" if kind.endswith("_type") else "invalid_value"
            reason = error["msg"][:1].lower() + error["msg"][1:]
            return refusal(f"Invalid value for '{param}': {reason}.", param, code)


def _path(place: tuple[int | str, ...]) -> str:
    """Such as messages[0].content."""
    path = ""
    for step in place:
        path += f"[{step}]" if isinstance(step, int) else f".{printable(step)}" if path else printable(step)
    return path
