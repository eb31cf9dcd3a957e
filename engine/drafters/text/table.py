"""N-grams of a language in files that are memory-mapped: what follows one, two or three tokens, with probabilities.

A directory with `ngrams.json` and, for each length of context, five arrays (`.npy`): where the contexts begin that end
with each token, the contexts packed into 64 bits and sorted, where the followers of each begin, the followers, and
their probabilities in 255ths. A lookup so goes to two or three places in memory, which after a step of the target is
what it costs. The likeliest follower stands first. What their probabilities lack to 1 is left to shorter contexts
(absolute discounting: Ney et al. 1994).
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MANIFEST = "ngrams.json"
FORMAT = 1
MAX_CONTEXT = 3
"""Tokens."""
ID_BITS = 21
"""Three ids fit 63 bits."""
SCALE = 255
_ARRAYS = ("ranges", "contexts", "starts", "followers", "probabilities")
_CACHED = 1 << 16
_MOST_FOLLOWERS = 8
_LITTLE = 0.05
"""What is not worth another look."""


@dataclass(frozen=True, slots=True)
class TableManifest:
    """For whom a table was made, and of what."""

    language: str
    target_id: str
    tokenizer_hash: str
    num_texts: int
    num_tokens: int
    num_ngrams: int
    format: int = FORMAT


def pack(context: Sequence[int]) -> int:
    """Up to three ids in one number, the last one in its highest bits: contexts that end alike stand together."""
    key = 0
    for token in reversed(context):
        key = key << ID_BITS | token
    return key


def write_table(
    directory: Path, manifest: TableManifest, arrays: Mapping[int, Mapping[str, NDArray[np.generic]]]
) -> None:
    """`arrays` by length of context, then by name. The manifest comes last: without it there is no table."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MANIFEST).unlink(missing_ok=True)
    for length, of_length in arrays.items():
        for name in _ARRAYS:
            np.save(_file(directory, name, length), of_length[name])
    (directory / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")


def read_table_manifest(directory: Path) -> TableManifest:
    """ValueError says what is wrong with it."""
    path = directory / MANIFEST
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        manifest = TableManifest(**fields)
    except (OSError, ValueError, TypeError) as error:
        reason = f"{type(error).__name__}"
        raise ValueError(
            f"{path} is no manifest of an n-gram table ({reason}); make one by `polydraft build ngram`"
        ) from None
    if manifest.format != FORMAT:
        raise ValueError(f"{path} has format {manifest.format}, this release reads {FORMAT}; build the table again")
    return manifest


class NGramTable:
    """Read-only. Looks up in the files' own pages; what was asked for lately is kept as it was answered."""

    def __init__(self, directory: Path, vocab_size: int) -> None:
        """ValueError says what is wrong with the directory."""
        self.manifest = read_table_manifest(directory)
        self._arrays = {length: _open(directory, length, vocab_size) for length in range(1, MAX_CONTEXT + 1)}
        self.following = lru_cache(_CACHED)(self._following)
        """(up to three tokens) -> what follows with probabilities, the likeliest first. Shorter contexts have what
        longer ones leave to them."""

    def _following(self, context: tuple[int, ...]) -> tuple[tuple[int, float], ...]:
        likely: dict[int, float] = {}
        left = 1.0
        for length in range(min(len(context), MAX_CONTEXT), 0, -1):
            if left < _LITTLE:
                break
            claimed = 0.0
            for token, prob in self._seen_behind(context[-length:]):
                likely[token] = likely.get(token, 0.0) + left * prob
                claimed += prob
            left *= max(1.0 - claimed, 0.0)
        best = sorted(((-prob, token) for token, prob in likely.items()))[:_MOST_FOLLOWERS]
        return tuple((token, -negative) for negative, token in best)

    def _seen_behind(self, context: tuple[int, ...]) -> list[tuple[int, float]]:
        ranges, contexts, starts, followers, probabilities = self._arrays[len(context)]
        first, end = ranges[context[-1]], ranges[context[-1] + 1]
        key = pack(context)
        place = bisect_left(contexts, key, first, end)
        if place == end or contexts[place] != key:
            return []
        here = slice(starts[place], starts[place + 1])
        likely = zip(followers[here].tolist(), probabilities[here].tolist(), strict=True)
        return [(token, prob / SCALE) for token, prob in likely]


def _open(directory: Path, length: int, vocab_size: int) -> tuple[memoryview, ...]:
    """What looks single numbers up asks memory for them, not numpy: that takes a tenth of the time."""
    arrays = []
    for name in _ARRAYS:
        path = _file(directory, name, length)
        try:
            arrays.append(np.load(path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read ({type(error).__name__}); build the table again") from None
    ranges, contexts, starts, followers, probabilities = arrays
    fits = (
        contexts.dtype == np.uint64
        and len(ranges) == vocab_size + 1
        and ranges[-1] == len(contexts)
        and all(array.ndim == 1 for array in arrays)
        and len(starts) == len(contexts) + 1
        and len(followers) == len(probabilities) == (int(starts[-1]) if len(starts) else 0)
        and (len(followers) == 0 or int(followers.max()) < vocab_size)
    )
    if not fits:
        raise ValueError(
            f"{directory}: arrays for contexts of {length} do not fit each other or the vocabulary; build it again"
        )
    return tuple(memoryview(array) for array in arrays)


def _file(directory: Path, name: str, length: int) -> Path:
    return directory / f"{name}.{length}.npy"
