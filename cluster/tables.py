"""Tables for a plain terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as need be; the first is aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        return "  ".join([cells[0].ljust(widths[0]), *padded[1:]]).rstrip()

    return "\n".join(map(line, [header, *rows]))


def number(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}"


def share(part: float) -> str:
    """In per cent."""
    return f"{part:.0%}"


def or_nothing(text: Callable[[float], str], value: float | None) -> str:
    """The value's text; "-" where there is none."""
    return "-" if value is None else text(value)
