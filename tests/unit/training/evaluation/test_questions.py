"""Question files as the benchmarks publish them, and what is wrong with broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.evaluation.questions import Question, read_questions

GOOD = '{"question_id": 81, "category": "writing", "turns": ["eins", "zwei"], "reference": ["x"]}\n'
OTHER = '{"question_id": "wmt_1", "category": "deen", "language": "fr", "turns": ["un"]}\n'


def tell(text: str) -> str | None:
    return {"eins\nzwei": "de"}.get(text)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_both_benchmarks_are_read_as_they_are(tmp_path: Path) -> None:
    file = write(tmp_path / "spec_bench.jsonl", f"{GOOD}\n{OTHER}")

    assert read_questions([file], tell) == [
        Question("spec_bench", "81", "writing", "de", ("eins", "zwei")),
        Question("spec_bench", "wmt_1", "deen", "fr", ("un",)),
    ]


def test_a_question_says_its_language_before_the_command_and_that_before_its_text(tmp_path: Path) -> None:
    unclear = '{"question_id": 1, "turns": ["???"]}\n'
    file = write(tmp_path / "q.jsonl", GOOD + OTHER + unclear)

    assert [question.language for question in read_questions([file], tell, "ja")] == ["ja", "fr", "ja"]
    assert [question.language for question in read_questions([file], tell)] == ["de", "fr", "und"]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    files = [write(tmp_path / name / "question.jsonl", GOOD) for name in ("deen_bench", "fren_bench")]

    assert [question.domain for question in read_questions(files, tell)] == [
        "deen_bench/question",
        "fren_bench/question",
    ]
    with pytest.raises(ValueError, match="given twice"):
        read_questions([files[0], files[1], files[0]], tell)


def test_the_limit_counts_each_file_and_language(tmp_path: Path) -> None:
    lines = [f'{{"question_id": {n}, "turns": ["x"], "language": "{"de" if n % 2 else "fr"}"}}' for n in range(8)]
    files = [write(tmp_path / name, "\n".join(lines)) for name in ("a.jsonl", "b.jsonl")]

    found = [(question.domain, question.id) for question in read_questions(files, tell, limit=2)]

    assert found == [(domain, number) for domain in "ab" for number in "0123"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD + "{oops\n", "line 2: Invalid JSON"),
        ('{"turns": ["a"]}', "line 1: question_id"),
        ('{"question_id": 1}', "line 1: turns: Field required"),
        ('{"question_id": 1, "turns": []}', "line 1: turns: "),
        ('{"question_id": 1, "turns": "a"}', "line 1: turns: "),
        ('{"question_id": 1, "turns": ["a", ""]}', r"line 1: turns\.1: "),
        ('{"question_id": 1, "turns": ["a"], "language": "German"}', "line 1: language: "),
        (GOOD + OTHER + GOOD, "line 3: question_id 81 stands in line 1 already"),
        ("\n", "holds no questions"),
    ],
)
def test_a_broken_file_is_named_with_its_line_and_what_to_write(tmp_path: Path, text: str, problem: str) -> None:
    file = write(tmp_path / "broken.jsonl", text)

    with pytest.raises(ValueError, match=rf"broken\.jsonl.*{problem}.*(reads|give)"):
        read_questions([file], tell)


def test_a_missing_file_and_a_wrong_language_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*none\.jsonl"):
        read_questions([tmp_path / "none.jsonl"], tell)
    with pytest.raises(ValueError, match="'German': give an ISO 639 code"):
        read_questions([], tell, "German")
