"""What a call gives back: the events of a stream, and the whole answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FinishReason(StrEnum):
    """Why an answer ended."""

    EOS = "eos"
    LENGTH = "length"
    STOP = "stop"
    TIME_BUDGET = "time_budget"
    UNSPECIFIED = "unspecified"


class TokenSource(StrEnum):
    """Who proposed a token; the target decides all of them."""

    TARGET = "target"
    DRAFTER = "drafter"
    UNSPECIFIED = "unspecified"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int = 0
    """Of the prompt: tokens that the target had read for an earlier request. After a resume, in the last call."""


@dataclass(frozen=True, slots=True)
class DrafterUse:
    """One of the drafters that an answer could choose between.

    A rate is tokens in the time of a round without drafts.
    """

    drafter: str
    """ "off": decoding without drafts."""
    rounds: int
    tokens: int
    """Committed in these rounds, the target's own included."""
    seconds: float
    scored_rounds: int
    """In which another drafted and it was only scored."""
    scored_tokens: int
    """That those rounds would have committed."""
    expected_rate_at_first: float
    """When the answer began."""
    expected_rate: float
    """At its end, had it gone on."""
    expected_tokens: float
    """Of a round, at its end."""


@dataclass(frozen=True, slots=True)
class Speculation:
    """Figures of one answer. After a resume they cover the call that finished it."""

    rounds: int
    drafted: int
    accepted: int
    late_drafts: int = 0
    failovers: int = 0
    drafter_version: str = ""
    """Of the weights that drafted last, such as "de@0" or, adapted to a tenant, "de@acme.3"; "" if nothing drafted."""
    drafters: tuple[DrafterUse, ...] = ()
    """Where several serve the language: all that the choice was between, and "off"."""
    drafter_changes: int = 0
    """How often the answer went on with another."""


@dataclass(frozen=True, slots=True)
class Started:
    """The first event."""

    request_id: str
    effective_seed: int
    target_id: str
    numerics_id: str
    language: str
    """Of the input; "und" if neither given nor detected."""
    drafter: str
    """ "off" when nothing drafts."""
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Of one token under the target's own law, temperature 1, before top-k and top-p."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens of its place with theirs, best first."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the answer. The text may lag behind the tokens: characters and stop strings are never cut."""

    first_token_index: int
    token_ids: tuple[int, ...]
    text: str
    sources: tuple[TokenSource, ...]
    """One a token."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    """One a token, if they were asked for."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event."""

    finish_reason: FinishReason
    usage: Usage
    speculation: Speculation


Event = Started | Chunk | Finished


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds since the call began, measured by the client."""

    ttft_s: float | None
    """To the first token; None if the answer has none."""
    total_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    text: str
    token_ids: tuple[int, ...]
    started: Started
    finished: Finished
    timing: Timing
    logprobs: tuple[TokenLogprobs, ...] = ()
    """One a token, if they were asked for."""

    @property
    def language(self) -> str:
        return self.started.language

    @property
    def drafter(self) -> str:
        return self.started.drafter

    @property
    def numerics_id(self) -> str:
        return self.started.numerics_id

    @property
    def finish_reason(self) -> FinishReason:
        return self.finished.finish_reason

    @property
    def usage(self) -> Usage:
        return self.finished.usage

    @property
    def speculation(self) -> Speculation:
        return self.finished.speculation
