"""The report's cells as a matrix: a row for each domain and language, a column for each drafter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.evaluation.report import Cell, Plain, Report


@dataclass(frozen=True, slots=True)
class Row:
    """The questions of a domain and language at one temperature."""

    label: str
    plain: Plain
    cells: tuple[Cell | None, ...]
    """By drafter; None where it was not asked."""


def temperatures(report: Report) -> list[float]:
    return list(dict.fromkeys(plain["temperature"] for plain in report["plain"]))


def rows(report: Report, temperature: float) -> list[Row]:
    """Columns are `report["drafters"]`."""
    several = len({plain["domain"] for plain in report["plain"]}) > 1
    cells = {(cell["domain"], cell["language"], cell["temperature"], cell["drafter"]): cell for cell in report["cells"]}
    return [
        Row(
            f"{plain['domain']} {plain['language']}" if several else plain["language"],
            plain,
            tuple(cells.get((plain["domain"], plain["language"], temperature, name)) for name in report["drafters"]),
        )
        for plain in report["plain"]
        if plain["temperature"] == temperature
    ]


def own_cells(some: Sequence[Row]) -> list[tuple[Row, Cell]]:
    """The cells whose drafter is the language's own."""
    return [(row, cell) for row in some for cell in row.cells if cell is not None and cell["is_own"]]
