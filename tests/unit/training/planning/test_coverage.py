"""The curve by hand, from both kinds of files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from training.planning.coverage import coverage_of, read_coverage, row_counts


def test_curve_by_hand() -> None:
    coverage = coverage_of(Counter({7: 5, 2: 1, 9: 3, 4: 1}))

    assert [coverage(rows) for rows in (1, 2, 3, 4, 100)] == pytest.approx([0.5, 0.8, 0.9, 1.0, 1.0])


def test_answers_and_counts_give_the_same_curve(tmp_path: Path) -> None:
    (tmp_path / "de.0.jsonl").write_text(json.dumps({"answer_ids": [3, 3, 1]}) + "\n")
    (tmp_path / "de.1.jsonl").write_text(json.dumps({"answer_ids": [3]}) + "\n")
    (tmp_path / "target.json").write_text('{"target_id": "abc"}')
    (tmp_path / "counts.json").write_text('{"3": 3, "1": 1}')

    of_answers, of_counts = (read_coverage(path, 10) for path in (tmp_path, tmp_path / "counts.json"))

    assert of_answers == of_counts
    assert of_answers.shares == (0.75, 1.0)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"text": "no ids"}\n', "a.jsonl: neither"),
        ("a.json", "[1, 2]", "a.json: neither"),
        ("a.json", '{"12": 1}', "token 12 is outside the target's vocabulary of 10"),
        ("a.jsonl", "", "no answers"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(ValueError, match=message):
        read_coverage(tmp_path / name, 10)


def test_uncounted_vocabularies_are_not_cut_below_what_is_assumed_to_be_covered() -> None:
    assert row_counts(8192, None) == (2048, 4096, 8192)
    assert row_counts(8192, coverage_of(Counter([1]))) == (512, 1024, 2048, 4096, 8192)
