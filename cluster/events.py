"""What one answer tells its caller: Started, Chunks, Finished."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cluster.messages import FinishReason, TokenLogprobs


class TokenSource(Enum):
    """Who proposed a token. The target decides all of them."""

    TARGET = "target"
    DRAFTER = "drafter"


@dataclass(frozen=True, slots=True)
class Started:
    """First: what the answer depends on."""

    request_id: str
    effective_seed: int
    target_id: str
    numerics_id: str
    language: str
    drafter: str
    """ "off" when none was chosen."""
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Committed tokens, and the text that is complete with them."""

    first_token_index: int
    token_ids: tuple[int, ...]
    text: str
    sources: tuple[TokenSource, ...]
    """One a token."""
    next_round: int
    logprobs: tuple[TokenLogprobs, ...] = ()
    """One a token, if the request asks for them."""
    pieces: tuple[str, ...] = ()
    """One a token: what of `text` became complete with it. Empty where text was only held back."""


@dataclass(frozen=True, slots=True)
class DrafterUse:
    """One of the drafters that an answer could choose between: what was expected of it, and what came of it."""

    drafter: str
    """ "off": without drafts."""
    rounds: int
    tokens: int
    """That these rounds committed, the target's own included."""
    seconds: float
    scored_rounds: int
    """In which another drafted and it was only scored."""
    scored_tokens: int
    """That those rounds would have committed."""
    expected_rate_at_first: float
    """Tokens in the time of a round without drafts, when the answer began."""
    expected_rate: float
    """The same at the end, for this answer going on."""
    expected_tokens: float
    """Of a round, at the end."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What speculation did for one answer."""

    rounds: int = 0
    """Verdicts, the prefill's own token of each opening not counted."""
    drafted: int = 0
    accepted: int = 0
    late_drafts: int = 0
    failovers: int = 0
    drafter_version: str = ""
    """Of the weights that drafted last; empty when nothing drafted."""
    drafters: tuple[DrafterUse, ...] = ()
    """Where there was a choice: all that it was between."""
    drafter_changes: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """Last: why the answer ended, and its figures."""

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    """Tokens sent by this call: a resumed answer's own beginning is not counted."""
    figures: Figures
    cached_prompt_tokens: int = 0
    """Of the prompt, at the replica that this call opened last: tokens whose KV was found there."""


Event = Started | Chunk | Finished
