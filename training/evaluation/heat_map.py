"""Tokens a round as a picture: languages down, drafters across, a panel for each temperature."""

from __future__ import annotations

from pathlib import Path

from training.evaluation.matrix import rows, temperatures
from training.evaluation.report import Report

PLAIN = 1.0
"""Tokens a round without drafts: where the colours begin."""
MIN_HEIGHT = 3.4
"""Inches that the colours' legend takes."""


def save_heat_map(report: Report, path: Path) -> None:
    """Write a PNG. Cells of a language's own drafter have a frame; those that were not asked are empty."""
    import matplotlib as mpl

    mpl.use("Agg")  # no display needed
    from matplotlib import pyplot as plt
    from matplotlib.patches import Rectangle

    panels = {temperature: rows(report, temperature) for temperature in temperatures(report)}
    names = list(report["drafters"])
    values = {
        temperature: [[float("nan") if c is None else c["tokens_per_round"]["mean"] for c in row.cells] for row in some]
        for temperature, some in panels.items()
    }
    highest = max((cell["tokens_per_round"]["mean"] for cell in report["cells"]), default=PLAIN)
    num_rows, label_length = max(map(len, panels.values())), max(len(r.label) for some in panels.values() for r in some)
    size = (1.4 + 0.08 * label_length + (0.9 * len(names) + 0.4) * len(panels), max(1.5 + 0.55 * num_rows, MIN_HEIGHT))
    figure, grid = plt.subplots(1, len(panels), figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axes, (temperature, some) in zip(grid[0], panels.items(), strict=True):
        image = axes.imshow(values[temperature], vmin=PLAIN, vmax=max(highest, 1.5), cmap="viridis", aspect="auto")
        for y, row in enumerate(some):
            for x, cell in enumerate(row.cells):
                if cell is None:
                    continue
                mean = cell["tokens_per_round"]["mean"]
                is_bright = mean > PLAIN + 0.6 * (image.norm.vmax - PLAIN)
                weight = "bold" if cell["is_own"] else "normal"
                colour = "black" if is_bright else "white"
                axes.text(x, y, f"{mean:.2f}", ha="center", va="center", color=colour, fontweight=weight)
                if cell["is_own"]:
                    axes.add_patch(
                        Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, fill=False, edgecolor="red", linewidth=2)
                    )
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(some)), [row.label for row in some])
        axes.set_title(f"T = {temperature:g}")
        axes.set_xlabel("drafter")
    grid[0][0].set_ylabel("language of the questions")
    figure.colorbar(image, ax=list(grid[0]), label="tokens a round (framed: own drafter)")
    figure.savefig(path, dpi=150)
    plt.close(figure)
