"""From token ids back to text, a token at a time: whole characters only, and nothing of a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.text import Tokenizer

_INCOMPLETE = "\ufffd"


class Detokenizer:
    """Incremental decoding: the pieces of `push` and the one of `flush` join to the decoding of all ids.

    Ids from `_start` on are decoded again with each token; those before `_read` have been told and give the context
    that decoders with leading-space rules need.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._start = 0
        self._read = 0

    def push(self, token_id: int) -> str:
        """Text that is complete with this token; empty while a character is incomplete."""
        self._ids.append(token_id)
        if token_id in self._tokenizer.byte_fallback_ids or token_id in self._tokenizer.special_ids:
            return ""  # neither ends a run of bytes
        text = self._untold()
        if not text or text.endswith(_INCOMPLETE):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return text

    def flush(self) -> str:
        """What is left at the end of the answer: bytes that never became a character, as U+FFFD."""
        text = self._untold()
        self._start = self._read = len(self._ids)
        return text

    def _untold(self) -> str:
        told = self._tokenizer.decode(self._ids[self._start : self._read])
        return self._tokenizer.decode(self._ids[self._start :])[len(told) :]


@dataclass(frozen=True, slots=True)
class Matched:
    """What may be told of a piece of text."""

    text: str
    stopped: bool


class StopStrings:
    """Withholds what may begin a stop string; the string itself and what follows it are never told."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, piece: str) -> Matched:
        """`piece` follows what was pushed before."""
        text = self._held + piece
        starts = [start for stop in self._stops if (start := text.find(stop)) >= 0]
        if starts:
            self._held = ""
            return Matched(text[: min(starts)], stopped=True)
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return Matched(text[: len(text) - keep], stopped=False)

    def flush(self) -> str:
        """What was withheld, when the answer ends for another reason."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop` without completing it."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
