"""Sentence pairs from `<corpus>/{train,valid,test}/XX-en.tsv[.gz]`, the everyday subset of them, and the prompt form.

The everyday subset keeps short pairs of frequent words. A target of 14M parameters learns to translate those in
two CPU hours; on the whole corpus it writes fluent nonsense for as long.
"""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = {"de": "German", "fr": "French", "ru": "Russian", "ja": "Japanese", "zh": "Chinese"}
UNSPACED_LANGUAGES = frozenset({"ja", "zh"})

MAX_ENGLISH_WORDS = 9
MIN_ENGLISH_WORDS = 2
NUM_EVERYDAY_WORDS = 2_500
MAX_SOURCE_CHARS = 50
MAX_SOURCE_CHARS_UNSPACED = 22

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+")


@dataclass(frozen=True, slots=True)
class Pair:
    """A source sentence and its English translation."""

    language: str
    source: str
    english: str


def read_pairs(corpus: Path, split: str, language: str) -> Iterator[Pair]:
    """Yield the pairs of one language of `split`; raises FileNotFoundError naming the missing file."""
    stem = corpus / split / f"{language}-en.tsv"
    packed = stem.with_name(stem.name + ".gz")
    with gzip.open(packed, "rt", encoding="utf-8") if packed.exists() else stem.open(encoding="utf-8") as lines:
        for line in lines:
            source, english = line.rstrip("\n").split("\t")
            yield Pair(language, source, english)


def english_words(text: str) -> list[str]:
    """Lower-cased words and numbers of an English sentence."""
    return _WORD.findall(text.lower().replace("\u2019", "'"))


def everyday_words(pairs: Iterable[Pair]) -> frozenset[str]:
    """The most frequent English words of `pairs` (the training pairs of all languages)."""
    counts = Counter(word for pair in pairs for word in english_words(pair.english))
    return frozenset(word for word, _ in counts.most_common(NUM_EVERYDAY_WORDS))


def is_everyday(pair: Pair, words: frozenset[str]) -> bool:
    """Whether the pair is short and its English side uses frequent words only."""
    english = english_words(pair.english)
    limit = MAX_SOURCE_CHARS_UNSPACED if pair.language in UNSPACED_LANGUAGES else MAX_SOURCE_CHARS
    return (
        MIN_ENGLISH_WORDS <= len(english) <= MAX_ENGLISH_WORDS
        and len(pair.source) <= limit
        and words.issuperset(english)
    )


def read_training_pairs(corpus: Path) -> dict[str, list[Pair]]:
    """All training pairs by language."""
    return {language: list(read_pairs(corpus, "train", language)) for language in LANGUAGES}


def everyday_pairs(corpus: Path, split: str) -> dict[str, list[Pair]]:
    """The everyday subset of `split` by language; the word list always comes from the training pairs."""
    training = read_training_pairs(corpus)
    words = everyday_words(pair for pairs in training.values() for pair in pairs)
    chosen = training if split == "train" else {code: list(read_pairs(corpus, split, code)) for code in LANGUAGES}
    return {code: [pair for pair in pairs if is_everyday(pair, words)] for code, pairs in chosen.items()}


def instruction(language: str) -> str:
    """The text before the source sentence, without the space that follows it."""
    return f"Translate {LANGUAGES[language]} to English:"


def prompt_text(language: str, source: str) -> str:
    """The one prompt form that the target was trained on."""
    return f"{instruction(language)} {source}\n"


def join_sources(language: str, sources: Sequence[str]) -> str:
    """Several sentences as one text: no spaces in Japanese and Chinese."""
    return ("" if language in UNSPACED_LANGUAGES else " ").join(sources)


def pack(pairs: Sequence[Pair]) -> Pair:
    """Several pairs of one language as one longer pair, sentence by sentence."""
    language = pairs[0].language
    assert all(pair.language == language for pair in pairs), {pair.language for pair in pairs}
    return Pair(language, join_sources(language, [p.source for p in pairs]), " ".join(p.english for p in pairs))
