"""How much of what the target writes a trimmed vocabulary holds (VocabTrim, 2506.22694)."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

ROW_SHARES = (16, 8, 4, 2, 1)
"""The rows of the grid are the vocabulary over these."""
ASSUMED_SHARE = 4
"""Without counts rows are not cut below the vocabulary over this: of the English sides of the demo corpus the most
frequent quarter of the demo target's 8,192 tokens covers 0.99, the eighth 0.91."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """The share of written tokens that the k most frequent ones make up, for k = 1, 2, ..."""

    shares: tuple[float, ...]
    num_tokens: int
    """Counted."""

    def __call__(self, rows: int) -> float:
        """Of the `rows` most frequent tokens."""
        return self.shares[min(rows, len(self.shares)) - 1]


def coverage_of(counts: Counter[int]) -> Coverage:
    """The curve of these counts by token id; raises ValueError if nothing was counted."""
    total = sum(counts.values())
    if not total:
        raise ValueError("no tokens were counted")
    ranked = sorted(counts.values(), reverse=True)
    return Coverage(tuple(count / total for count in accumulate(ranked)), total)


def read_coverage(path: Path, vocab_size: int) -> Coverage:
    """From JSON lines with `answer_ids` (a file, or a directory of them as `distil` writes it), or from one JSON object
    of counts by token id. Raises ValueError, naming the file, for anything else and for ids outside the vocabulary.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    counts: Counter[int] = Counter()
    for file in files:
        try:
            counts += _counts(file)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{file}: neither JSON lines with answer_ids nor one object of counts by token id ({error})"
            ) from error
    outside = [token for token in counts if not 0 <= token < vocab_size]
    if outside:
        raise ValueError(f"{path}: token {outside[0]} is outside the target's vocabulary of {vocab_size}")
    if not counts:
        raise ValueError(f"{path} holds no answers; write some with `polydraft train distil`")
    return coverage_of(counts)


def _counts(file: Path) -> Counter[int]:
    with file.open(encoding="utf-8") as lines:
        if file.suffix != ".jsonl":
            return Counter({int(token): int(count) for token, count in json.load(lines).items()})
        counts: Counter[int] = Counter()
        for line in lines:
            counts.update(map(int, json.loads(line)["answer_ids"]))
        return counts


def row_counts(vocab_size: int, coverage: Coverage | None) -> tuple[int, ...]:
    """The sizes of the vocabulary that are tried, ascending."""
    shares = ROW_SHARES if coverage else tuple(share for share in ROW_SHARES if share <= ASSUMED_SHARE)
    return tuple(sorted({-(-vocab_size // share) for share in shares}))
