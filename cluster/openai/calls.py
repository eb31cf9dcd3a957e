"""From a body to the requests that answer it: one a choice."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cluster.errors import printable
from cluster.openai.errors import refusal
from cluster.openai.requests import ChatBody, ChatMessage, CompletionBody
from cluster.request import RawRequest

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Turn:
    """A chat message as the request's checks want it."""

    role: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """One choice of the answer."""

    index: int
    group: int
    """Number of its prompt; the first of a group leads it."""
    raw: RawRequest


def choice_seed(seed: int, number: int) -> int:
    """Of a prompt's choice: the request's own seed for the first, and bits of a hash of both for the others.

    53 bits, which whoever takes JSON's numbers for floats can send again.
    """
    if number == 0:
        return seed & _MASK
    digest = hashlib.sha256((seed & _MASK).to_bytes(8, "little") + number.to_bytes(8, "little")).digest()
    return int.from_bytes(digest[:8], "little") >> 11


def calls_of(body: CompletionBody | ChatBody, drawn_seed: int) -> list[Call]:
    """The choices in order: all of the first prompt, then all of the second. `drawn_seed` is for bodies without one."""
    seed = drawn_seed if body.seed is None else body.seed
    calls: list[Call] = []
    for group, asked in enumerate(_by_prompt(body)):
        for number in range(body.n):
            calls.append(Call(len(calls), group, replace(asked, seed=choice_seed(seed, number))))
    return calls


def _by_prompt(body: CompletionBody | ChatBody) -> list[RawRequest]:
    """A request for each prompt."""
    shared = RawRequest(
        language=body.language,
        max_tokens=body.answer_tokens,
        temperature=body.temperature,
        top_k=body.top_k,
        top_p=body.top_p,
        stop=tuple(_to_bytes(stop) for stop in body.stop),
        time_budget_s=body.time_budget_s,
        speculation=body.speculation,
        max_draft_tokens=body.max_draft_tokens,
        logprobs=body.top_logprobs,
    )
    if isinstance(body, ChatBody):
        return [replace(shared, chat=_turns(body.messages))]
    return [
        replace(shared, prompt=_to_bytes(prompt)) if isinstance(prompt, str) else replace(shared, prompt_ids=prompt)
        for prompt in body.prompts
    ]


def _turns(messages: Sequence[ChatMessage]) -> tuple[Turn, ...]:
    turns = []
    for number, message in enumerate(messages):
        role = _ROLES.get(message.role)
        if role is None:
            raise refusal(
                f"Invalid value for 'messages[{number}].role': '{printable(message.role, 32)}' is not served; "
                f"supported values are {', '.join(_ROLES)}.",
                f"messages[{number}].role",
                "invalid_value",
            )
        turns.append(Turn(role, _to_bytes(message.content)))
    return tuple(turns)


def _to_bytes(text: str) -> bytes:
    # JSON may hold half a surrogate pair; the request's checks refuse what it becomes.
    return text.encode("utf-8", "surrogatepass")
