"""Prompts for the benchmarks: sentences of the corpus in the target's own prompt form, 1 to 4 packed together.

python -m benchmarks.prompts --corpus ../shared/corpus --count 40 > runs/prompts.jsonl
python -m benchmarks.prompts --everyday test --as questions > runs/everyday.jsonl    # for `polydraft evaluate`
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from training.demo_family.corpus import LANGUAGES, Pair, everyday_pairs, pack, prompt_text, read_pairs


@dataclass(frozen=True, slots=True)
class CorpusPrompt:
    """One prompt of the corpus' sentences."""

    id: str
    language: str
    prompt: str


def corpus_prompts(corpus: Path, count: int) -> Iterator[CorpusPrompt]:
    """The first `count` prompts of each language, packing 1, 2, 3, 4, 1, ... sentences of `corpus/test` in order."""
    for language in LANGUAGES:
        yield from _packed(language, read_pairs(corpus, "test", language), count)


def everyday_prompts(corpus: Path, split: str, count: int) -> Iterator[CorpusPrompt]:
    """Likewise of the everyday subset of a split, which the demo family knows; fewer where the sentences run out."""
    for language, pairs in everyday_pairs(corpus, split).items():
        yield from _packed(language, iter(pairs), count)


def _packed(language: str, pairs: Iterator[Pair], count: int) -> Iterator[CorpusPrompt]:
    for number, size in enumerate(islice(cycle((1, 2, 3, 4)), count)):
        sentences = list(islice(pairs, size))
        if len(sentences) < size:
            return
        yield CorpusPrompt(f"{language}-{number}", language, prompt_text(language, pack(sentences).source))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--count", type=int, default=40, help="prompts a language")
    parser.add_argument("--everyday", choices=["train", "valid", "test"], help="of the everyday subset of this split")
    parser.add_argument("--as", dest="form", choices=["requests", "questions"], default="requests")
    args = parser.parse_args()
    everyday = args.everyday is not None
    prompts = (
        everyday_prompts(args.corpus, args.everyday, args.count)
        if everyday
        else corpus_prompts(args.corpus, args.count)
    )
    write = _request if args.form == "requests" else _question
    for prompt in prompts:
        print(json.dumps(write(prompt), ensure_ascii=False))


def _request(one: CorpusPrompt) -> dict[str, object]:
    return {"id": one.id, "prompt": one.prompt, "language": one.language}


def _question(one: CorpusPrompt) -> dict[str, object]:
    turn = one.prompt.removesuffix("\n")  # the chat template ends it
    return {"question_id": one.id, "category": "translation", "turns": [turn], "language": one.language}


if __name__ == "__main__":
    main()
