"""No sentence of the corpus is copied into prompts, tests or documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.corpus_copies import copied_sentences, corpus_sentences, normalised, written_texts
from tests.architecture.files import GENERATED, files
from tests.conftest import ROOT

SUFFIXES = {".html", ".js", ".jsonl", ".md", ".proto", ".py", ".txt", ".yaml"}


def test_no_sentence_of_the_corpus_is_copied(corpus: Path) -> None:
    sentences = corpus_sentences(corpus)
    texts = [path for path in files() if path.suffix in SUFFIXES and not GENERATED.search(path.name)]

    found = {
        str(path.relative_to(ROOT)): copied
        for path in texts
        if (copied := [piece for text in written_texts(path) for piece in copied_sentences(text, sentences)])
    }

    assert len(sentences) > 100_000
    assert found == {}


@pytest.mark.parametrize(
    ("text", "is_copied"),
    [
        ("Translate: My uncle keeps eleven green parrots!\n", True),
        ("She said 'My uncle keeps eleven green parrots.'", True),
        ("My uncle keeps twelve green parrots.", False),
        ("橋の上で青い帽子を洗う。", True),
        ("橋の上で白い帽子を洗う。", False),
    ],
)
def test_a_copied_sentence_is_found(text: str, is_copied: bool) -> None:
    sentences = {"my uncle keeps eleven green parrots", normalised("橋の上で青い帽子を洗う")}

    assert bool(copied_sentences(text, sentences)) is is_copied
