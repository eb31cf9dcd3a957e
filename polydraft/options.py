"""What a call may ask for. The server checks the values; its configuration has the defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a chat; `role` is such as "user", of lower-case letters and underscores."""

    role: str
    content: str | bytes


Prompt = str | bytes | Sequence[ChatMessage]
"""A text, or a chat that the server renders with the target's template. Bytes are sent as they are."""


class GenerateOptions(TypedDict, total=False):
    """The keywords of `generate` and `stream`. An absent one, or None, leaves the choice to the server."""

    language: str | None
    """Primary tag of the input's language, such as "de"; absent: detected."""
    max_tokens: int | None
    temperature: float | None
    """0 takes the most likely token, and is the default."""
    top_k: int | None
    """Keep this many most likely tokens; 0: all."""
    top_p: float | None
    seed: int | None
    """The same seed gives the same text, whatever drafts; absent: the server draws one and tells it."""
    stop: Sequence[str | bytes]
    """The answer ends with the first token that completes one of these."""
    time_budget_s: float | None
    speculation: str | None
    """ "auto", "off", or a drafter's name."""
    max_draft_tokens: int | None
    logprobs: int | None
    """Tell log-probabilities of each token, and of so many likeliest ones beside it, up to 20; absent: none."""
