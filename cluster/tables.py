"""Tables for a plain terminal."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as need be; the first is aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        return "  ".join([cells[0].ljust(widths[0]), *padded[1:]]).rstrip()

    return "\n".join(map(line, [header, *rows]))


def number(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}"


def share(part: float, whole: float) -> str:
    """In per cent; "-" of nothing."""
    return f"{part / whole:.0%}" if whole else "-"


def ratio(value: float, by: float, digits: int = 2) -> str:
    """ "-" for a division by nothing."""
    return number(value / by, digits) if by else "-"
