"""Prompts for the benchmarks: test sentences of the corpus in the target's own prompt form, 1 to 4 packed together.

python -m benchmarks.prompts --corpus ../shared/corpus --count 40 > runs/prompts.jsonl
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from training.demo_family.corpus import LANGUAGES, pack, prompt_text, read_pairs


@dataclass(frozen=True, slots=True)
class CorpusPrompt:
    """One prompt of the test sentences."""

    id: str
    language: str
    prompt: str


def corpus_prompts(corpus: Path, count: int) -> Iterator[CorpusPrompt]:
    """The first `count` prompts of each language, packing 1, 2, 3, 4, 1, ... sentences of `corpus/test` in order."""
    for language in LANGUAGES:
        pairs = read_pairs(corpus, "test", language)
        for number, size in enumerate(islice(cycle((1, 2, 3, 4)), count)):
            source = pack(list(islice(pairs, size))).source
            yield CorpusPrompt(f"{language}-{number}", language, prompt_text(language, source))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--count", type=int, default=40, help="prompts a language")
    args = parser.parse_args()
    for prompt in corpus_prompts(args.corpus, args.count):
        print(json.dumps({"id": prompt.id, "prompt": prompt.prompt, "language": prompt.language}, ensure_ascii=False))


if __name__ == "__main__":
    main()
