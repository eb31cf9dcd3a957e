"""The rolling 64-bit hash that labels a sequence: drafts name the sequence they build on by it."""

from __future__ import annotations

from collections.abc import Iterable

_MASK = (1 << 64) - 1
EMPTY_HASH = 0x9E3779B97F4A7C15


def extend_hash(base_hash: int, token_ids: Iterable[int]) -> int:
    """Hash of the sequence that `base_hash` stands for, with `token_ids` appended (splitmix64's finaliser a token)."""
    state = base_hash
    for token in token_ids:
        state = (state ^ (token + 1)) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state
