"""Question files as Multilingual-SpecBench and Spec-Bench have them: one JSON object a line.

`{"question_id": 81, "category": "writing", "turns": ["Write ...", "Now rewrite it ..."]}`; `language` may be added,
other fields are ignored. A file is a domain: figures are kept apart by file and language.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

UNKNOWN = "und"
"""Language of a question whose text does not tell it (ISO 639: undetermined)."""

LANGUAGE = r"^[a-z]{2,3}$"
_EXAMPLE = '{"question_id": 81, "category": "writing", "turns": ["Write ..."]}'

TellLanguage = Callable[[str], str | None]
"""The language of a text, None if it has none."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question; its turns are asked one after the other, with the answers between them."""

    domain: str
    id: str
    category: str
    language: str
    turns: tuple[str, ...]


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    question_id: str | int
    category: str = ""
    turns: Annotated[list[Annotated[str, StringConstraints(min_length=1)]], Field(min_length=1)]
    language: Annotated[str, StringConstraints(pattern=LANGUAGE)] | None = None


def read_questions(
    paths: Sequence[Path], tell_language: TellLanguage, language: str | None = None, limit: int | None = None
) -> list[Question]:
    """The questions of all files in order, at most `limit` of each file and language.

    A question's language is its own field, else `language`, else what `tell_language` makes of its turns. ValueError
    names the file, the line and what to do.
    """
    if language is not None and not re.fullmatch(LANGUAGE, language):
        raise ValueError(f"language {language!r}: give an ISO 639 code such as 'de'")
    questions: list[Question] = []
    taken: Counter[tuple[str, str]] = Counter()
    for path, domain in zip(paths, _domains(paths), strict=True):
        for line in _read_lines(path):
            told = line.language or language or tell_language("\n".join(line.turns)) or UNKNOWN
            taken[domain, told] += 1
            if limit is None or taken[domain, told] <= limit:
                questions.append(Question(domain, str(line.question_id), line.category, told, tuple(line.turns)))
    return questions


def _domains(paths: Sequence[Path]) -> list[str]:
    """The files' names, with as many folders as tell them apart: Multilingual-SpecBench's are all `question.jsonl`.

    _domains([de/question.jsonl, fr/question.jsonl]) -> ["de/question", "fr/question"]
    """
    files = [path.resolve() for path in paths]
    parts = [(*file.parts[1:-1], file.name.removesuffix(".jsonl")) for file in files]
    if len({*parts}) < len(parts):
        twice = next(path for path, own in zip(paths, parts, strict=True) if parts.count(own) > 1)
        raise ValueError(f"{twice}: given twice; name each file once")
    length = next(
        length for length in range(1, max(map(len, parts)) + 1) if len({p[-length:] for p in parts}) == len(parts)
    )
    return ["/".join(own[-length:]) for own in parts]


def _read_lines(path: Path) -> list[_Line]:
    try:
        raw_lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; give a file of questions") from None
    lines: list[_Line] = []
    first_at: dict[str, int] = {}
    for number, raw in enumerate(raw_lines, start=1):
        if not raw.strip():
            continue
        try:
            line = _Line.model_validate_json(raw)
        except ValidationError as error:
            raise ValueError(f"{path}, line {number}: {_problem(error)}; a line reads {_EXAMPLE}") from None
        earlier = first_at.setdefault(str(line.question_id), number)
        if earlier != number:
            raise ValueError(
                f"{path}, line {number}: question_id {line.question_id!r} stands in line {earlier} already; "
                "give each question an id of its own"
            )
        lines.append(line)
    if not lines:
        raise ValueError(f"{path} holds no questions; a line reads {_EXAMPLE}")
    return lines


def _problem(error: ValidationError) -> str:
    """The first complaint as: where, what is wrong."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(step) for step in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
