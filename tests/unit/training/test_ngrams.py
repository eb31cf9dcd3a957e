"""N-gram tables: counts by hand, nothing that one text alone said, and a command that says what it lacks."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from engine.drafters.text.table import NGramTable
from engine.identity import target_id
from polydraft.cli import main
from tests.tiny_recipe import write_recipe
from training.ngrams import TableSettings, build_table

VOCAB = 12


def texts_of(seed: int) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.choice((1, 2, 2, 3, 4)) for _ in range(rng.randrange(2, 30))] for _ in range(20)]


@pytest.mark.parametrize("min_texts", [1, 2, 4])
def test_probabilities_are_discounted_counts_of_what_enough_texts_hold(
    tiny_target: Path, tmp_path: Path, min_texts: int
) -> None:
    texts = texts_of(min_texts)
    counts: defaultdict[int, Counter[int]] = defaultdict(Counter)
    holders: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    for number, text in enumerate(texts):
        for first, second in pairwise(text):
            counts[first][second] += 1
            holders[first, second].add(number)

    manifest = build_table(texts, "de", tiny_target, VOCAB, tmp_path / "de", TableSettings(min_texts))

    assert (manifest.language, manifest.target_id) == ("de", target_id(tiny_target))
    assert (manifest.num_texts, manifest.num_tokens) == (20, sum(map(len, texts)))
    table = NGramTable(tmp_path / "de", VOCAB)
    for first, followers in counts.items():
        expected = {
            token: (number - 0.5) / followers.total()
            for token, number in followers.items()
            if len(holders[first, token]) >= min_texts
        }
        assert dict(table.following((first,))) == pytest.approx(expected, abs=0.5 / 255)


def test_what_one_text_alone_said_is_not_in_a_table(tiny_target: Path, tmp_path: Path) -> None:
    secret = [7, 8, 9, 10, 7, 8, 9, 10]

    build_table([secret, [1, 2, 3], [1, 2, 3]], "de", tiny_target, VOCAB, tmp_path / "de", TableSettings())

    table = NGramTable(tmp_path / "de", VOCAB)
    for context in [(7,), (7, 8), (7, 8, 9), (10,)]:
        assert table.following(context) == ()
    assert [token for token, _ in table.following((1, 2))] == [3]


def test_a_bounded_table_keeps_what_was_seen_most(tiny_target: Path, tmp_path: Path) -> None:
    texts = [[1, 2, 3]] * 50 + [[4, 5, 6]] * 2

    manifest = build_table(texts, "de", tiny_target, VOCAB, tmp_path / "de", TableSettings(max_ngrams=3))

    table = NGramTable(tmp_path / "de", VOCAB)
    assert manifest.num_ngrams == 3
    assert table.following((1, 2)) and not table.following((4, 5))


def test_ids_that_are_not_the_targets_are_refused(tiny_target: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="token id 99 is outside the target's vocabulary of 12"):
        build_table([[1, 99]], "de", tiny_target, VOCAB, tmp_path / "de", TableSettings())
    with pytest.raises(ValueError, match="a vocabulary of 3,000,000 does not fit"):
        build_table([[1]], "de", tiny_target, 3_000_000, tmp_path / "de", TableSettings())


def test_the_command_names_the_stage_that_is_missing(
    tiny_target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, tiny_target)

    assert main(["build", "ngram", str(recipe), "--output", str(tmp_path / "out")]) == 2
    assert "no answers; run the stage distil first" in capsys.readouterr().err
