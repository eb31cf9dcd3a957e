"""Texts from files and Hugging Face datasets; broken lines are counted and named, then refused or left out."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TextIO

from training.recipe import Source

NUM_NAMED = 5
"""Broken lines of a source that a message names."""
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


class BrokenLines(ValueError):
    """A source holds lines that cannot be read."""


class _Broken(Exception):
    """Why one line cannot be used."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Text:
    """What a user says, and the answer if there is one."""

    id: str
    """Number of the source and of the line, from 0 and 1: the same file gives the same ids."""
    turns: tuple[Turn, ...]
    answer: str | None


def read_texts(sources: Sequence[Source], broken: Literal["refuse", "skip"]) -> list[Text]:
    """All texts in order. Raises FileNotFoundError, or BrokenLines that counts and names what cannot be read.

    With `skip` such lines are left out and the count is printed.
    """
    texts: list[Text] = []
    for number, source in enumerate(sources):
        problems: list[str] = []
        num_lines = 0
        for line, row in enumerate(islice(_rows(source), source.limit), start=1):
            num_lines = line
            try:
                texts.append(_text(f"{number}.{line}", source, row))
            except _Broken as error:
                problems.append(f"line {line}: {error}")
        if problems:
            message = _complaint(source, problems, num_lines)
            if broken == "refuse":
                raise BrokenLines(f"{message}; mend them, or set broken_lines: skip")
            print(f"{message}; left out", flush=True)
    return texts


def _complaint(source: Source, problems: Sequence[str], num_lines: int) -> str:
    named = "; ".join(problems[:NUM_NAMED]) + ("; ..." if len(problems) > NUM_NAMED else "")
    return f"{name_of(source)}: {len(problems):,} of {num_lines:,} lines are broken ({named})"


def name_of(source: Source) -> str:
    """For messages and provenance."""
    if source.path is not None:
        return str(source.path)
    return ":".join(part for part in (source.dataset, source.subset, source.split, source.revision) if part)


def hash_of(source: Source) -> str:
    """SHA-256 of a file's bytes, of a directory's files; of a hub dataset its fingerprint."""
    if source.path is None:
        return str(getattr(_dataset(source), "_fingerprint", "unknown"))
    digest = hashlib.sha256()
    for path in sorted(source.path.rglob("*")) if source.path.is_dir() else [source.path]:
        if path.is_file():
            with path.open("rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
    return digest.hexdigest()[:16]


def _rows(source: Source) -> Iterator[Mapping[str, Any] | _Broken]:
    """The fields of each line, or what is wrong with it."""
    if source.path is not None and not source.path.exists():
        raise FileNotFoundError(f"{source.path}: no such file or directory")
    kinds = source.path.suffixes if source.path is not None else []
    if ".jsonl" in kinds:
        return _read_lines(source, _parse_json)
    if ".tsv" in kinds:
        return _read_lines(source, lambda line: _parse_tsv(line, source.columns))
    return iter(_dataset(source))


def _read_lines(source: Source, parse: Callable[[str], Mapping[str, Any]]) -> Iterator[Mapping[str, Any] | _Broken]:
    assert source.path is not None
    with _open(source.path) as lines:
        for line in lines:
            try:
                yield parse(line)
            except _Broken as error:
                yield error


@contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    """Bytes that are no UTF-8 become U+FFFD, which makes their line a broken one and not the end of the run."""
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="\n") as lines:
            yield lines
    else:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            yield lines


def _parse_json(line: str) -> Mapping[str, Any]:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise _Broken(f"not JSON, {error.msg}") from None
    if not isinstance(fields, dict):
        raise _Broken(f"found {type(fields).__name__}, expected an object")
    return fields


def _parse_tsv(line: str, columns: Sequence[str]) -> Mapping[str, Any]:
    cells = line.rstrip("\r\n").split("\t")
    if len(cells) != len(columns):
        raise _Broken(f"{len(cells)} columns, expected {len(columns)}")
    return dict(zip(columns, cells, strict=True))


def _dataset(source: Source) -> Iterable[Mapping[str, Any]]:
    try:
        import datasets  # an extra: it brings pandas and pyarrow
    except ImportError:
        raise ValueError(f"{name_of(source)}: needs the package `datasets`; pip install polydraft[train]") from None
    if source.path is None:
        assert source.dataset is not None
        return _loaded(
            datasets.load_dataset(source.dataset, source.subset, split=source.split, revision=source.revision)
        )
    if source.path.is_dir():
        found = datasets.load_from_disk(str(source.path))
        return _loaded(found[source.split] if isinstance(found, datasets.DatasetDict) else found)
    kind = source.path.suffix.removeprefix(".")
    if kind not in ("parquet", "csv"):
        raise ValueError(f"{source.path}: found .{kind}; give .jsonl, .tsv, .parquet, .csv or a saved dataset")
    return _loaded(datasets.load_dataset(kind, data_files=str(source.path), split="train"))


def _loaded(dataset: Any) -> Iterable[Mapping[str, Any]]:
    rows: Iterable[Mapping[str, Any]] = dataset
    return rows


def _text(text_id: str, source: Source, row: Mapping[str, Any] | _Broken) -> Text:
    if isinstance(row, _Broken):
        raise row
    if source.messages is not None:
        return Text(text_id, *_conversation(row, source.messages))
    answer = _fill(source.answer, row) if source.answer is not None else None
    return Text(text_id, (Turn("user", _fill(source.prompt, row)),), answer)


def _fill(template: str, row: Mapping[str, Any]) -> str:
    try:
        text = template.format_map(row)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise _Broken(f"no field {error}; it has {', '.join(row)}") from None
    if not text.strip():
        raise _Broken(f"{template!r} is empty")
    if "\ufffd" in text:
        raise _Broken("not UTF-8")
    return text


def _conversation(row: Mapping[str, Any], field: str) -> tuple[tuple[Turn, ...], str]:
    """All turns but the last, and the last, which must be the assistant's."""
    try:
        turns = [
            Turn(_ROLES[turn.get("role") or turn["from"]], turn["content"] if "content" in turn else turn["value"])
            for turn in row[field]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise _Broken(f"field {field!r} is no list of {{role, content}} or {{from, value}} ({error})") from None
    if len(turns) < 2 or turns[-1].role != "assistant" or not all(isinstance(turn.content, str) for turn in turns):
        raise _Broken(f"field {field!r} does not end with an assistant's answer")
    return tuple(turns[:-1]), turns[-1].content
