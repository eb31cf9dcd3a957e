"""Texts come from files and datasets as they are; what cannot be read is told by line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from training.data import BrokenLines, Turn, hash_of, read_texts
from training.recipe import Source

PAIRS = [{"it": "Dov'è la stazione?", "en": "Where is the station?"}, {"it": "Grazie.", "en": "Thank you."}]


def jsonl(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(source: Source) -> list[tuple[str, str | None]]:
    return [(text.turns[0].content, text.answer) for text in read_texts([source], "refuse")]


def test_formats_give_the_same_texts(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    lines = "".join(f"{row['it']}\t{row['en']}\n" for row in PAIRS)
    (tmp_path / "pairs.tsv").write_text(lines, encoding="utf-8")
    with gzip.open(tmp_path / "pairs.tsv.gz", "wt", encoding="utf-8") as file:
        file.write(lines)
    jsonl(tmp_path / "pairs.jsonl", [*PAIRS])
    dataset = datasets.Dataset.from_list(PAIRS)
    dataset.to_parquet(tmp_path / "pairs.parquet")
    dataset.save_to_disk(tmp_path / "saved")
    expected = [(f"Translate: {row['it']}", row["en"]) for row in PAIRS]

    for name in ("pairs.tsv", "pairs.tsv.gz", "pairs.jsonl", "pairs.parquet", "saved"):
        columns = ("it", "en") if ".tsv" in name else ()
        source = Source(path=tmp_path / name, columns=columns, prompt="Translate: {it}", answer="{en}")
        assert read(source) == expected, name


def test_fields_may_lie_deeper_and_answers_may_be_missing(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"translation": {"it": "Ciao."}}])

    assert read(Source(path=path, prompt="Say {translation[it]}")) == [("Say Ciao.", None)]


def test_conversations_end_with_the_answer(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    longer = [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]
    path = jsonl(tmp_path / "a.jsonl", [{"conversations": turns}, {"conversations": [*turns, *longer]}])

    first, second = read_texts([Source(path=path, messages="conversations")], "refuse")

    assert (first.turns, first.answer) == ((Turn("user", "a"),), "b")
    assert (second.turns, second.answer) == ((Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c")), "d")


def test_ids_name_source_and_line_and_the_limit_counts_lines(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": str(n)} for n in range(5)])

    texts = read_texts([Source(path=path, limit=2), Source(path=path, limit=1)], "refuse")

    assert [text.id for text in texts] == ["0.1", "0.2", "1.1"]


BROKEN = b'{"it": "a"}\n{"it": \n[1]\n{"en": "b"}\n{"it": " "}\n{"it": "\xff"}\n{"it": "c"}\n'


def test_broken_lines_are_counted_named_and_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(BROKEN)

    with pytest.raises(BrokenLines) as caught:
        read_texts([Source(path=tmp_path / "a.jsonl", prompt="{it}")], "refuse")

    told = str(caught.value)
    for part in (
        "5 of 7 lines are broken",
        "line 2: not JSON",
        "line 3: found list, expected an object",
        "line 4: no field 'it'; it has en",
        "line 5: '{it}' is empty",
        "line 6: not UTF-8",
        "mend them, or set broken_lines: skip",
    ):
        assert part in told, part


def test_broken_lines_are_left_out_if_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_bytes(BROKEN)

    texts = read_texts([Source(path=tmp_path / "a.jsonl", prompt="{it}")], "skip")

    assert [(text.id, text.turns[0].content) for text in texts] == [("0.1", "a"), ("0.7", "c")]
    assert "5 of 7 lines are broken" in capsys.readouterr().out


def test_rows_of_a_table_have_its_columns(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("a\tb\na\tb\tc\n")

    with pytest.raises(BrokenLines, match=r"1 of 2 lines are broken .line 2: 3 columns, expected 2"):
        read_texts([Source(path=tmp_path / "a.tsv", columns=("it", "en"), prompt="{it}")], "refuse")


def test_a_missing_file_and_an_unknown_kind_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_text("x")

    with pytest.raises(FileNotFoundError, match=r"none\.jsonl: no such file"):
        read_texts([Source(path=tmp_path / "none.jsonl")], "refuse")
    with pytest.raises(ValueError, match=r"a\.docx: found \.docx; give \.jsonl, \.tsv"):
        read_texts([Source(path=tmp_path / "a.docx")], "refuse")


def test_the_hash_follows_the_bytes(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": "a"}])
    before = hash_of(Source(path=path))
    assert hash_of(Source(path=path, limit=3)) == before

    jsonl(path, [{"prompt": "b"}])

    assert hash_of(Source(path=path)) != before
