"""The corpus as the recipe reads it: `<language>.jsonl` with prompts of 1 to 4 sentences and their translations.

Half of the prompts come from the everyday subset, half from the whole corpus: a drafter has to foresee what the target
makes of sentences that it was not trained on, too. `<language>.everyday.jsonl` holds the first half alone, for
pretraining. `<language>.test.jsonl` holds sentences of the test pairs, each once, to judge drafters by.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from training.demo_family.corpus import (
    LANGUAGES,
    Pair,
    everyday_pairs,
    instruction,
    pack,
    read_pairs,
    read_training_pairs,
)
from training.demo_family.quality import pack_in_order
from training.files import append_lines

SEED = 20_261_123
MAX_PACKED = 4


def write_data(corpus: Path, output: Path, num_prompts: int) -> None:
    """Write the three files of each language; what is there is written anew."""
    output.mkdir(parents=True, exist_ok=True)
    everyday, whole = everyday_pairs(corpus, "train"), read_training_pairs(corpus)
    for language in LANGUAGES:
        first = list(islice(packs(everyday[language], f"{SEED}/{language}/everyday"), num_prompts // 2))
        second = list(islice(packs(whole[language], f"{SEED}/{language}/whole"), num_prompts - len(first)))
        for name, chosen in ((f"{language}.everyday", first), (language, first + second)):
            _write(output / f"{name}.jsonl", chosen)
        tested = list(read_pairs(corpus, "test", language))
        _write(output / f"{language}.test.jsonl", pack_in_order(tested, len(tested), random.Random(SEED)))


def packs(pairs: Sequence[Pair], seed: str) -> Iterator[Pair]:
    """Endless packs of 1 to 4 sentences; all pairs are used before one comes again."""
    rng = random.Random(seed)
    unused: list[Pair] = []
    while True:
        size = rng.randint(1, MAX_PACKED)
        if len(unused) < size:
            unused = rng.sample(pairs, len(pairs))
        yield pack(unused[-size:])
        del unused[-size:]


def _write(path: Path, pairs: Sequence[Pair]) -> None:
    path.unlink(missing_ok=True)
    append_lines(path, map(_line, pairs))


def _line(pair: Pair) -> dict[str, str]:
    return {"prompt": f"{instruction(pair.language)} {pair.source}", "answer": pair.english}
