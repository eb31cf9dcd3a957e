"""The demo's result: a row per language, the table of them, and the plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polydraft.commands import bench_stats as stats
from polydraft.commands.bench_stats import Record

ON_COLOUR, OFF_COLOUR = "#1b7f79", "#b9c3c9"


@dataclass(frozen=True, slots=True)
class Row:
    """One language."""

    language: str
    drafter: str
    tokens_per_round: float
    tokens_per_s_on: float
    tokens_per_s_off: float
    identical: bool

    @property
    def speedup(self) -> float:
        return stats.ratio(self.tokens_per_s_on, self.tokens_per_s_off)


def make_row(language: str, records: Sequence[Record]) -> Row:
    """The figures of one language from its answers of both sides."""
    drafted = [record for record in records if record.drafted]
    plain = [record for record in records if not record.drafted]
    same, asked = stats.count_identical(records)
    return Row(
        language=language,
        drafter=drafted[0].drafter,
        tokens_per_round=stats.tokens_per_round(drafted),
        tokens_per_s_on=stats.mean_speed(drafted),
        tokens_per_s_off=stats.mean_speed(plain),
        identical=same == asked,
    )


def table(rows: Sequence[Row]) -> str:
    """The rows for people, with the mean below."""
    lines = [
        "language   drafter       tokens per round   tokens/s on   tokens/s off   speedup   identical text",
        "-" * 97,
    ]
    for row in rows:
        lines.append(
            f"{row.language:<10} {row.drafter:<13} {row.tokens_per_round:>16.2f} {row.tokens_per_s_on:>13.1f} "
            f"{row.tokens_per_s_off:>14.1f} {row.speedup:>9.2f}   {'yes' if row.identical else 'NO':>14}"
        )
    per_round = sum(row.tokens_per_round for row in rows) / len(rows)
    speedup = sum(row.speedup for row in rows) / len(rows)
    lines += ["-" * 97, f"{'mean':<24} {per_round:>16.2f} {'':>13} {'':>14} {speedup:>9.2f}"]
    return "\n".join(lines)


def save_plot(rows: Sequence[Row], path: Path) -> None:
    """Tokens a second with drafting and without, and tokens a round, by language (PNG)."""
    import matplotlib as mpl

    mpl.use("Agg")  # no display needed
    from matplotlib import pyplot as plt

    figure, (speeds, rounds) = plt.subplots(1, 2, figsize=(10, 4.2), width_ratios=(3, 2), layout="constrained")
    places = range(len(rows))
    names = [row.language for row in rows]
    on = speeds.bar(
        [x - 0.2 for x in places], [row.tokens_per_s_on for row in rows], 0.4, color=ON_COLOUR, label="drafting on"
    )
    speeds.bar(
        [x + 0.2 for x in places], [row.tokens_per_s_off for row in rows], 0.4, color=OFF_COLOUR, label="drafting off"
    )
    speeds.bar_label(on, [f"x{row.speedup:.2f}" for row in rows], padding=3)
    speeds.set_title("One stream, whole cluster")
    speeds.set_ylabel("tokens per second")
    bars = rounds.bar(places, [row.tokens_per_round for row in rows], 0.5, color=ON_COLOUR)
    rounds.bar_label(bars, fmt="%.2f", padding=3)
    rounds.axhline(1.0, color="#555555", linewidth=1, linestyle="--", label="plain decoding")
    rounds.set_title("Tokens per target pass")
    rounds.set_ylabel("tokens per round")
    for axes in (speeds, rounds):
        axes.set_xticks(list(places), names)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(y=0.12)
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2)
    figure.suptitle("Polydraft: a small drafter per language, the target's own text", fontweight="bold")
    figure.savefig(path, dpi=150)
    plt.close(figure)
