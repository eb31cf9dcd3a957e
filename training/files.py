"""Small files that a kill cannot spoil: JSON written whole, and lists that grow line by line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: object) -> None:
    """JSON, written beside and renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def append_lines(path: Path, objects: Iterable[object]) -> None:
    """One JSON object a line; OSError if the disk is full, which leaves at most one line without its end."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in objects))
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror}); free some space and run the same again") from None


def read_lines(path: Path) -> Iterator[Any]:
    """Objects of whole lines; a last line without its line break is a write that was cut off."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)


def drop_partial_line(path: Path) -> None:
    """Cut off what a killed run left behind the last whole line."""
    if path.exists():
        data = path.read_bytes()
        if not data.endswith(b"\n"):
            path.write_bytes(data[: data.rfind(b"\n") + 1])
