"""Messages that had an outcome of their own: what later messages are mutated from."""

from __future__ import annotations

import re
from random import Random

_MAX_MESSAGES, _MAX_BYTES = 512, 4_096


class Corpus:
    """Grows by every message whose status and detail, digits aside, no message had before."""

    def __init__(self) -> None:
        self._messages: list[bytes] = []
        self._seen: set[tuple[str, str]] = set()

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, message: bytes, status: str, detail: str) -> None:
        outcome = (status, re.sub(r"\d+", "", detail))
        if outcome not in self._seen and len(message) <= _MAX_BYTES and len(self._messages) < _MAX_MESSAGES:
            self._seen.add(outcome)
            self._messages.append(message)

    def pick(self, rng: Random) -> bytes:
        return rng.choice(self._messages) if self._messages else b""
