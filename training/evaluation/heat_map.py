"""Tokens a round as a picture: languages down, drafters across, a panel for each temperature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training.evaluation.matrix import Row, rows, temperatures
from training.evaluation.report import Cell, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLAIN = 1.0
"""Tokens a round without drafts: where the colours begin."""
LEAST_RANGE = 0.5
"""Of the colours, so that a drafter that brings nothing does not look good."""
BRIGHT = 0.6
"""Share of the colours' range from which on they are too bright for white text."""
MIN_HEIGHT = 3.4
"""Inches that the colours' legend takes."""


def save_heat_map(report: Report, path: Path) -> None:
    """Write a PNG. Cells of a language's own drafter have a frame; those that were not asked are empty."""
    import matplotlib as mpl

    mpl.use("Agg")  # no display needed
    from matplotlib import pyplot as plt

    panels = {temperature: rows(report, temperature) for temperature in temperatures(report)}
    labels = [row.label for some in panels.values() for row in some]
    names = list(report["drafters"])
    highest = max(PLAIN + LEAST_RANGE, *(_value(cell) for cell in report["cells"]))
    width = 1.4 + 0.08 * max(map(len, labels)) + (0.9 * len(names) + 0.4) * len(panels)
    height = max(1.5 + 0.55 * max(map(len, panels.values())), MIN_HEIGHT)
    figure, grid = plt.subplots(
        1, len(panels), figsize=(width, height), squeeze=False, sharey=True, layout="constrained"
    )
    for axes, (temperature, some) in zip(grid[0], panels.items(), strict=True):
        _draw(axes, some, highest)
        axes.set_xticks(range(len(names)), names)
        axes.set_title(f"T = {temperature:g}")
        axes.set_xlabel("drafter")
    grid[0][0].set_ylabel("language of the questions")
    legend = "tokens a round (framed: own drafter)"
    figure.colorbar(grid[0][0].images[0], ax=list(grid[0]), label=legend)
    figure.savefig(path, dpi=150, format="png")
    plt.close(figure)


def _draw(axes: Axes, some: Sequence[Row], highest: float) -> None:
    """One panel: a square for each cell, its figure in it."""
    from matplotlib.patches import Rectangle

    values = [[_value(cell) if cell is not None else float("nan") for cell in row.cells] for row in some]
    axes.imshow(values, vmin=PLAIN, vmax=highest, cmap="viridis", aspect="auto")
    axes.set_yticks(range(len(some)), [row.label for row in some])
    cells = [(x, y, cell) for y, row in enumerate(some) for x, cell in enumerate(row.cells) if cell is not None]
    for x, y, cell in cells:
        colour = "black" if _value(cell) > PLAIN + BRIGHT * (highest - PLAIN) else "white"
        weight = "bold" if cell["is_own"] else "normal"
        axes.text(x, y, f"{_value(cell):.2f}", ha="center", va="center", color=colour, fontweight=weight)
        if cell["is_own"]:
            axes.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, fill=False, edgecolor="red", linewidth=2))


def _value(cell: Cell) -> float:
    return cell["tokens_per_round"]["mean"]
