"""Demand, replicas, queueing and cost over one day of each size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.autoscale.tuning import Result

_COLOURS = {"fixed": "#888888", "plain": "#d95f02", "ours": "#1b6ca8"}
_FIRST_MINUTE = 60
"""Before it the cluster finds its size."""
_PANELS = (
    ("requests", "requests a second"),
    ("targets", "target replicas"),
    ("drafters", "drafter replicas"),
    ("queue", "mean wait for prefill, s"),
    ("cost", "cost, $ an hour"),
)


def plot(results: Sequence[Result], path: Path) -> None:
    """The first reporting seed."""
    shown = [result for name in ("fixed", "plain", "ours") for result in results if result.name == name]
    sizes = sorted({result.size for result in shown})
    figure, axes = plt.subplots(len(_PANELS), len(sizes), figsize=(5 * len(sizes), 11), sharex=True, squeeze=False)
    for column, size in enumerate(sizes):
        for row, (name, label) in enumerate(_PANELS):
            panel = axes[row][column]
            for result in shown:
                if result.size == size and (name != "requests" or result.name == "ours"):
                    values = result.reporting.series[name][0][_FIRST_MINUTE:]
                    colour = "black" if name == "requests" else _COLOURS[result.name]
                    panel.plot(
                        _FIRST_MINUTE / 60 + np.arange(len(values)) / 60,
                        values,
                        color=colour,
                        linewidth=0.8,
                        label=result.name,
                    )
            panel.grid(alpha=0.3)
            panel.set_xlim(1, 24)
            if name == "queue":
                panel.set_yscale("log")
            else:
                panel.set_ylim(bottom=0)
            if column == 0:
                panel.set_ylabel(label)
        axes[0][column].set_title(f"about {size} replicas")
        axes[-1][column].set_xlabel("hour of the day, UTC")
    axes[1][0].legend(loc="lower right")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
