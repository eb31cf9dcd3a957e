"""A language's list of tokens is what the target's answers need."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.distil import Record
from training.drafter import TrimmedVocabulary
from training.trim import Coverage, count_tokens, coverage, list_hash, read_vocabulary, trim_to, write_vocabulary


def record(prompt_ids: list[int], answer_ids: list[int]) -> Record:
    return Record("0.1", "de", 0.0, prompt_ids, answer_ids, [], [])


RECORDS = (record([20, 25], [10, 25, 1]), record([20], [11, 1]), record([21], [10, 1]))


def test_tokens_are_counted_apart() -> None:
    answers, prompts = count_tokens(RECORDS)

    assert answers == {10: 2, 25: 1, 1: 3, 11: 1}
    assert prompts == {20: 2, 25: 1, 21: 1}


def test_what_must_be_there_is_there_and_the_rest_is_by_frequency() -> None:
    found = trim_to(RECORDS, num_rows=6, always=[1, 7], min_answer_count=1, vocab_size=30)

    assert found.token_ids == (1, 7, 10, 25, 20)
    assert found.num_head_tokens == 4, "20 occurs in prompts only"


@pytest.mark.parametrize("num_rows", [None, 31])
def test_without_a_bound_the_list_is_the_vocabulary(num_rows: int | None) -> None:
    found = trim_to(RECORDS, num_rows, always=[1], min_answer_count=1, vocab_size=30)

    assert found.token_ids == tuple(range(30))
    assert found.num_head_tokens == 30


def test_a_list_without_room_for_words_is_refused() -> None:
    with pytest.raises(ValueError, match=r"trim.rows: 3 leaves no row for words; 2 tokens are always kept"):
        trim_to(RECORDS, num_rows=3, always=[1, 7], min_answer_count=1, vocab_size=30)


def test_coverage_is_the_share_of_tokens_that_have_a_row(tmp_path: Path) -> None:
    found = trim_to(RECORDS, num_rows=5, always=[1], min_answer_count=2, vocab_size=30)

    # 1 and 10 can be proposed, 20 and 25 are read: 5 of 7 answer tokens, 3 of 4 prompt tokens.
    assert coverage(found, RECORDS) == Coverage(5 / 7, 3 / 4)
    write_vocabulary(tmp_path / "trim" / "de.json", found, coverage(found, RECORDS))
    assert read_vocabulary(tmp_path / "trim" / "de.json") == found


def test_the_hash_tells_lists_apart() -> None:
    one, other = TrimmedVocabulary((1, 10, 11), 3), TrimmedVocabulary((1, 10, 11), 2)

    assert list_hash(one) == list_hash(TrimmedVocabulary((1, 10, 11), 3))
    assert list_hash(one) != list_hash(other), "the same tokens, but fewer that can be proposed"
