"""Finds sentences of the corpus among the texts of a file."""

from __future__ import annotations

import ast
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

# Shorter sentences are common property: two people write the same one independently.
MIN_WORDS = 5
MIN_UNSPACED_CHARS = 10

_SENTENCE_END = re.compile("[.!?\u3002\uff01\uff1f\\n]+")
_INSIDE = re.compile("[:\uff1a\"'`|\u201e\u201c\u201d\u00ab\u00bb\u300c\u300d]")  # behind a colon, in quotes
_UNSPACED = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")


def normalised(text: str) -> str:
    """Lower case, words only."""
    return " ".join(re.findall(r"\w+", text.lower()))


def corpus_sentences(corpus: Path) -> set[str]:
    """Both sides of all pairs that are long enough to be recognised as copied."""
    sentences: set[str] = set()
    for path in sorted(corpus.glob("*/*.tsv*")):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for line in content.decode("utf-8").splitlines():
            sentences.update(filter(_is_long, map(normalised, line.split("\t"))))
    return sentences


def _is_long(sentence: str) -> bool:
    if _UNSPACED.search(sentence):
        return len(sentence.replace(" ", "")) >= MIN_UNSPACED_CHARS
    return len(sentence.split()) >= MIN_WORDS


def written_texts(path: Path) -> Iterator[str]:
    """The texts of a file in which a prompt or an answer may stand."""
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        nodes = ast.walk(ast.parse(content))
        yield from (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    elif path.suffix == ".jsonl":
        rows = (json.loads(line) for line in content.splitlines() if line)
        yield from (value for row in rows for value in row.values() if isinstance(value, str))
    else:
        yield content


def copied_sentences(text: str, sentences: set[str]) -> list[str]:
    """Whole sentences of `text`, and parts that stand behind a colon or in quotes, that are in `sentences`."""
    pieces = [text, *_SENTENCE_END.split(text)]
    pieces += [part for piece in pieces for part in _INSIDE.split(piece)]
    return sorted({piece for piece in map(normalised, pieces) if piece in sentences})
