"""The language of a request is that of what is to be worked on, whatever English stands around it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.language_detection import INSTRUCTIONS, LANGUAGES, instructed, read_sentences
from cluster.errors import ConfigError
from cluster.language import MAX_CHARS, Detection, LanguageDetector
from tests.conftest import ROOT

MIN_ACCURACY = 0.98


@pytest.fixture(scope="module")
def detector() -> LanguageDetector:
    return LanguageDetector(LANGUAGES)


def language_of(detector: LanguageDetector, text: str) -> str | None:
    found = detector.detect(text)
    return None if found is None else found.language


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Der Igel versteckt sich unter dem alten Apfelbaum."),
        ("de", "Er rief: Das Boot ist leer!"),
        ("fr", "Le boulanger a fermé sa boutique avant midi."),
        ("fr", "Non. Le train de nuit ne passe plus par ici."),
        ("ru", "Мой сосед чинит велосипед каждое утро."),
        ("ja", "隣の猫が窓から私の机を見ています。"),
        ("ja", "このLinuxのノートパソコンは軽いです。"),
        ("zh", "邻居家的猫每天早上坐在窗台上。"),
        ("en", "The baker closed his shop before noon."),
        ("en", "Question: why did the baker close his shop?\nAnswer: he was tired."),
    ],
)
def test_plain_text(detector: LanguageDetector, language: str, text: str) -> None:
    assert language_of(detector, text) == language


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Translate to Spanish: Der Igel versteckt sich unter dem alten Apfelbaum."),
        ("fr", "Please translate this German text:\nLe boulanger a fermé sa boutique avant midi."),
        ("fr", "Translate into Danish Le boulanger a fermé sa boutique avant midi."),
        ("fr", "\u201cLe boulanger a fermé sa boutique avant midi.\u201d What is that in Polish?"),
        ("de", "Der Igel versteckt sich unter dem alten Apfelbaum.\n\nSay the same in French."),
        ("ru", "The following Japanese sentence has one mistake in its grammar; which one? Он ушла."),
        ("ru", "Translate \u00abМой сосед чинит велосипед каждое утро\u00bb into Chinese."),
        ("ja", "Translate Chinese to English: 隣の猫が窓から私の机を見ています。"),
        ("zh", "Translate Japanese to English: 邻居家的猫每天早上坐在窗台上。"),
        ("zh", "[INST] Translate Russian to French [/INST] 邻居的猫"),
    ],
)
def test_english_around_the_text_is_left_out(detector: LanguageDetector, language: str, text: str) -> None:
    assert language_of(detector, text) == language


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Ich habe gestern gelernt, wie man das Wort \u300cありがとう\u300d richtig ausspricht und schreibt."),
        (
            "en",
            "My grandmother used the word \u00abда\u00bb at the end of nearly every sentence that she wrote to us.",
        ),
    ],
)
def test_a_quoted_foreign_word_does_not_decide(detector: LanguageDetector, language: str, text: str) -> None:
    assert language_of(detector, text) == language


@pytest.mark.parametrize(
    "text", ["", " \n", "12:30 -- 7 + 5 = 12", "🙂🙂", "안녕하세요, 반갑습니다.", "¿Dónde está mi gato?"]
)
def test_text_in_none_of_the_languages(detector: LanguageDetector, text: str) -> None:
    assert detector.detect(text) is None


def test_of_a_long_text_both_ends_count(detector: LanguageDetector) -> None:
    english = "The baker closed his shop before noon. " * (MAX_CHARS // 10)

    assert language_of(detector, english + "\nLe boulanger a fermé sa boutique avant midi.") == "fr"
    assert language_of(detector, english) == "en"


def test_script_alone_is_certain(detector: LanguageDetector) -> None:
    assert detector.detect("猫") == Detection("zh", 1.0)
    assert detector.detect("ネコ") == Detection("ja", 1.0)


def test_confidence_is_a_probability(detector: LanguageDetector) -> None:
    found = detector.detect("Der Igel versteckt sich unter dem alten Apfelbaum.")

    assert found is not None
    assert 0.9 < found.confidence <= 1


def test_only_the_languages_in_use_are_told_apart() -> None:
    detector = LanguageDetector(["ja"])

    assert language_of(detector, "Translate: 猫が窓から見ています。") == "ja"
    assert detector.detect("Der Igel versteckt sich unter dem alten Apfelbaum.") is None


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ConfigError, match="xx"):
        LanguageDetector(["de", "xx"])


def test_the_import_is_cheap() -> None:
    program = "import sys, cluster.language; print(*sorted({'numpy', 'py3langid', 'torch'} & set(sys.modules)))"

    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert result.stdout.strip() == ""


@pytest.mark.parametrize("kind", ["alone", *INSTRUCTIONS])
def test_accuracy_on_the_corpus(detector: LanguageDetector, corpus: Path, kind: str) -> None:
    accuracy = {}
    for language, sentences in read_sentences(corpus, "test").items():
        if language == "en":
            continue
        texts = [
            text
            for sentence in sentences
            for text in ([sentence] if kind == "alone" else instructed(kind, language, sentence))
        ]
        accuracy[language] = sum(language_of(detector, text) == language for text in texts) / len(texts)

    assert set(accuracy) == set(LANGUAGES)
    assert min(accuracy.values()) >= MIN_ACCURACY, accuracy
