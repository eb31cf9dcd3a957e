"""Log-probabilities in the two forms that OpenAI has for them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cluster.events import Chunk
from cluster.messages import TokenLogprobs
from cluster.openai.token_texts import TokenTexts
from cluster.streaming import Detokenizer

_IMPOSSIBLE = -9999.0
"""OpenAI's number for minus infinity, which JSON does not have."""

Json = dict[str, object]


def chat_logprobs(chunk: Chunk, texts: TokenTexts) -> Json:
    """`logprobs` of a chat's choice."""
    content = [
        _one(token_id, told.logprob, texts)
        | {"top_logprobs": [_one(*likely, texts) for likely in zip(told.top_ids, told.top_logprobs, strict=False)]}
        for token_id, told in zip(chunk.token_ids, chunk.logprobs, strict=True)
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(chunk: Chunk, texts: TokenTexts, text: Detokenizer, told_before: int) -> tuple[Json, int]:
    """`logprobs` of a completion's choice; `text` has read the tokens before, whose whole characters are counted."""
    offsets = []
    for token_id in chunk.token_ids:
        offsets.append(told_before)
        told_before += len(text.push(token_id))
    logprobs: Json = {
        "tokens": [texts.text_of(token_id) for token_id in chunk.token_ids],
        "token_logprobs": [_number(told.logprob) for told in chunk.logprobs],
        "top_logprobs": [
            _likeliest(token_id, told, texts) for token_id, told in zip(chunk.token_ids, chunk.logprobs, strict=True)
        ],
        "text_offset": offsets,
    }
    return logprobs, told_before


def _likeliest(token_id: int, told: TokenLogprobs, texts: TokenTexts) -> dict[str, float]:
    """By text, with the token that was written; of tokens with the same text the likelier counts."""
    found: dict[str, float] = {}
    for likely, logprob in (*zip(told.top_ids, told.top_logprobs, strict=False), (token_id, told.logprob)):
        found.setdefault(texts.text_of(likely), _number(logprob))
    return found


def _one(token_id: int, logprob: float, texts: TokenTexts) -> Json:
    return {"token": texts.text_of(token_id), "logprob": _number(logprob), "bytes": [*texts.bytes_of(token_id)]}


def _number(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else _IMPOSSIBLE


def joined(pieces: Sequence[Json]) -> Json | None:
    """Those of a whole answer."""
    if not pieces:
        return None
    return {
        name: [one for piece in pieces for one in piece[name]] if isinstance(value, list) else value  # type: ignore[attr-defined]  # lists, all of them
        for name, value in pieces[0].items()
    }
