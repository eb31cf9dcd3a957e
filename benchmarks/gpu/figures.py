"""What a run found out, as JSON and as a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `bound` is what it should at least be, if anything was asked."""

    section: str
    name: str
    value: float
    unit: str
    bound: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether it is as good as it should be; NaN never is."""
        return self.bound is None or self.value >= self.bound

    @property
    def verdict(self) -> str:
        """The bound and whether it holds, in words."""
        if self.bound is None:
            return self.note
        return f"{'holds' if self.holds else 'MISSED'}: at least {self.bound:g}" + (
            f"; {self.note}" if self.note else ""
        )


def truth(section: str, name: str, is_true: bool, note: str = "") -> Figure:
    """A statement that should hold."""
    return Figure(section, name, float(is_true), "yes or no", bound=1.0, note=note)


def as_json(figures: Sequence[Figure]) -> list[dict[str, object]]:
    """One object a figure."""
    return [asdict(figure) | {"holds": figure.holds} for figure in figures]


def markdown(figures: Sequence[Figure]) -> str:
    """A table a section."""
    lines: list[str] = []
    for section in dict.fromkeys(figure.section for figure in figures):
        lines += ["", f"## {section}", "", "| figure | value | unit | bound, note |", "|---|---:|---|---|"]
        lines += [
            f"| {figure.name} | {figure.value:.4g} | {figure.unit} | {figure.verdict} |"
            for figure in figures
            if figure.section == section
        ]
    return "\n".join(lines)
