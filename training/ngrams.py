"""N-gram tables from what the target wrote: counts of answers' ids, never of a corpus' own sentences.

An n-gram that fewer than `min_texts` answers hold is left out: a table has nothing that only one text said. Shape
letters: N n-grams of all texts in order, G different ones, C contexts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.drafters.text.table import ID_BITS, MAX_CONTEXT, SCALE, TableManifest, write_table
from engine.identity import target_id, tokenizer_hash
from training.recipe import load_recipe
from training.run import Run

Ints = NDArray[np.int64]

MAX_VOCAB = 1 << ID_BITS
SEVERAL = "mul"
"""Languages: ISO 639-2."""
_DISCOUNT = 0.5
"""Taken from each count for what was not seen."""
_MOST_FOLLOWERS = 8
"""Of a context."""


@dataclass(frozen=True, slots=True)
class TableSettings:
    """What goes into a table."""

    min_texts: int = 2
    """That hold an n-gram."""
    max_ngrams: int = 4_000_000
    """Those of the contexts that were seen least are left out."""


def build_tables(
    recipe: Path, languages: Sequence[str], output: Path, settings: TableSettings, *, together: bool = False
) -> Iterator[tuple[Path, TableManifest]]:
    """A table for each language in a folder of `output`, or `together` one in `output` itself, of the answers that the
    recipe's stage distil let the target write; not of those that drafters are judged by.

    ValueError or OSError says what is missing.
    """
    run = Run(load_recipe(recipe), languages)
    texts = {language: [record.answer_ids for record in run.records(language)[0]] for language in run.languages}
    if together:
        texts = {SEVERAL: [text for some in texts.values() for text in some]}
    for language, some in texts.items():
        directory = output if together else output / language
        yield directory, build_table(some, language, run.recipe.target, run.vocab_size, directory, settings)


def build_table(
    texts: Sequence[Sequence[int]], language: str, target: Path, vocab_size: int, output: Path, settings: TableSettings
) -> TableManifest:
    """Count, prune and write a table to `output`. ValueError if ids do not fit."""
    if vocab_size > MAX_VOCAB:
        raise ValueError(
            f"a vocabulary of {vocab_size:,} does not fit n-gram tables, which hold ids below {MAX_VOCAB:,}"
        )
    highest = max((max(text, default=0) for text in texts), default=0)
    if highest >= vocab_size:
        raise ValueError(
            f"token id {highest} is outside the target's vocabulary of {vocab_size}; whose answers are these?"
        )
    counted = {length: _count(texts, length, settings.min_texts) for length in range(1, MAX_CONTEXT + 1)}
    least = _least_seen(counted.values(), settings.max_ngrams)
    arrays = {length: counts.arrays(length, least, vocab_size) for length, counts in counted.items()}
    manifest = TableManifest(
        language=language,
        target_id=target_id(target),
        tokenizer_hash=tokenizer_hash(target / "tokenizer.json"),
        num_texts=len(texts),
        num_tokens=sum(map(len, texts)),
        num_ngrams=sum(len(of_length["followers"]) for of_length in arrays.values()),
    )
    write_table(output, manifest, arrays)
    return manifest


@dataclass(frozen=True, slots=True)
class _Counts:
    """Different n-grams of one length, sorted by context, the most frequent follower first."""

    contexts_G: NDArray[np.uint64]
    followers_G: Ints
    counts_G: Ints
    totals_G: Ints
    """How often the context was seen, with what was left out."""

    def arrays(self, length: int, least: int, vocab_size: int) -> Mapping[str, NDArray[np.generic]]:
        """As a table holds them, without contexts that were seen less often than `least`."""
        probs_G = np.rint(SCALE * (self.counts_G - _DISCOUNT) / self.totals_G)
        kept_G = (probs_G >= 1) & (self.totals_G >= least) & (_ranks(self.contexts_G) < _MOST_FOLLOWERS)
        contexts_C, starts_C = np.unique(self.contexts_G[kept_G], return_index=True)
        return {
            "ranges": _ranges(contexts_C, length, vocab_size),
            "contexts": contexts_C,
            "starts": np.append(starts_C, kept_G.sum()).astype(np.uint32),
            "followers": self.followers_G[kept_G].astype(np.uint16 if vocab_size <= 1 << 16 else np.uint32),
            "probabilities": probs_G[kept_G].astype(np.uint8),
        }


def _count(texts: Iterable[Sequence[int]], length: int, min_texts: int) -> _Counts:
    contexts_N, followers_N, texts_N = _ngrams(texts, length)
    order = np.lexsort((texts_N, followers_N, contexts_N))
    contexts_N, followers_N, texts_N = contexts_N[order], followers_N[order], texts_N[order]
    is_new = np.ones(len(order), dtype=bool)
    is_new[1:] = (contexts_N[1:] != contexts_N[:-1]) | (followers_N[1:] != followers_N[:-1])
    in_new_text = is_new.copy()
    in_new_text[1:] |= texts_N[1:] != texts_N[:-1]
    starts_G = np.flatnonzero(is_new)
    counts_G = np.diff(np.append(starts_G, len(order)))
    num_texts_G = np.add.reduceat(in_new_text, starts_G, dtype=np.int64) if len(starts_G) else counts_G
    contexts_G, followers_G = contexts_N[starts_G], followers_N[starts_G]
    totals_G = _totals(contexts_G, counts_G)
    kept = np.flatnonzero(num_texts_G >= min_texts)
    likeliest = kept[np.lexsort((followers_G[kept], -counts_G[kept], contexts_G[kept]))]
    return _Counts(contexts_G[likeliest], followers_G[likeliest], counts_G[likeliest], totals_G[likeliest])


def _ngrams(texts: Iterable[Sequence[int]], length: int) -> tuple[NDArray[np.uint64], Ints, Ints]:
    """Packed contexts, what followed, and the number of the text, [N] each."""
    contexts, followers, numbers = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for number, text in enumerate(texts):
        ids = np.asarray(text, dtype=np.uint64)
        if len(ids) > length:
            packed = ids[: len(ids) - length].copy()
            for place in range(1, length):
                packed |= ids[place : len(ids) - length + place] << np.uint64(place * ID_BITS)
            contexts.append(packed)
            followers.append(ids[length:].astype(np.int64))
            numbers.append(np.full(len(packed), number))
    return np.concatenate(contexts), np.concatenate(followers), np.concatenate(numbers)


def _totals(contexts_G: NDArray[np.uint64], counts_G: Ints) -> Ints:
    """How often the context of each n-gram was seen; contexts are sorted."""
    _, context_of_G = np.unique(contexts_G, return_inverse=True)
    totals: Ints = np.bincount(context_of_G, weights=counts_G).astype(np.int64)[context_of_G]
    return totals


def _ranges(contexts_C: NDArray[np.uint64], length: int, vocab_size: int) -> NDArray[np.uint32]:
    """Where the contexts begin whose last token, which is in their highest bits, is 0, 1, ...; and where they end."""
    last_C = (contexts_C >> np.uint64(ID_BITS * (length - 1))).astype(np.int64)
    return np.searchsorted(last_C, np.arange(vocab_size + 1)).astype(np.uint32)


def _ranks(contexts_G: NDArray[np.uint64]) -> Ints:
    """The place of each n-gram among those of its context."""
    _, starts_C, context_of_G = np.unique(contexts_G, return_index=True, return_inverse=True)
    return np.arange(len(contexts_G)) - starts_C[context_of_G]


def _least_seen(counted: Iterable[_Counts], max_ngrams: int) -> int:
    """How often a context must have been seen for no more n-grams than allowed to be left."""
    totals = np.sort(np.concatenate([counts.totals_G for counts in counted]))[::-1]
    return int(totals[max_ngrams]) + 1 if len(totals) > max_ngrams else 0
