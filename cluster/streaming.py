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
        self._beginnings = [_Beginning(stop) for stop in stops]
        self._held = ""

    def push(self, piece: str) -> Matched:
        """`piece` follows what was pushed before."""
        text = self._held + piece
        starts = [start for one in self._beginnings if (start := text.find(one.stop)) >= 0]
        if starts:
            self._held = ""
            return Matched(text[: min(starts)], stopped=True)
        keep = max((one.advance(piece) for one in self._beginnings), default=0)
        self._held = text[len(text) - keep :]
        return Matched(text[: len(text) - keep], stopped=False)

    def flush(self) -> str:
        """What was withheld, when the answer ends for another reason."""
        held, self._held = self._held, ""
        return held


class _Beginning:
    """How much of a stop string the text ends with: Knuth, Morris and Pratt's automaton, a step or two a character.

    Callers choose the strings and, by the prompt, much of the text: comparing every end of the text would be theirs to
    make slow.
    """

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self._length = 0
        self._shorter = [0]
        """For each length the next shorter beginning that is an end of it too."""
        for character in stop[1:]:
            self._shorter.append(self._next(self._shorter[-1], character))

    def advance(self, piece: str) -> int:
        """The length behind `piece`, which does not complete the string."""
        for character in piece:
            self._length = self._next(self._length, character)
        return self._length

    def _next(self, length: int, character: str) -> int:
        while length and self.stop[length] != character:
            length = self._shorter[length - 1]
        return length + (self.stop[length] == character)
