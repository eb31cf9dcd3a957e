"""The report of an evaluation for people: matrices of tokens a round and speedup, and each language's own drafter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from training.evaluation.matrix import Row, own_cells, rows, temperatures
from training.evaluation.report import ALL, Cell, FigureRecord, Report


def markdown(report: Report) -> str:
    """Ends with a line break."""
    sections = list(_head(report))
    for temperature in temperatures(report):
        sections += _temperature(report, temperature)
    return "\n".join(sections)


def _head(report: Report) -> Iterator[str]:
    same, asked = report["identical"]
    settings = ", ".join(f"{name} {_shown(value)}" for name, value in report["settings"].items())
    machine = ", ".join(f"{name} {_shown(value)}" for name, value in report["machine"].items())
    yield "# Drafters by language\n"
    commit = f"; commit {report['commit'][:12]}" if report["commit"] else ""
    yield f"Target {report['target_id']}; {machine}{commit}.\n"
    yield f"Settings: {settings}.\n"
    yield (
        "Tokens a round hold the target's own; they and the acceptances come from blocks as long as the drafter's "
        "configuration allows, speedups (ratio of means over questions, whole answers) from draft lengths as "
        "configured. In brackets 95 % intervals over questions; +- is the standard deviation over seeds. Bold: the "
        "language's own drafter.\n"
    )
    yield f"Answers identical with and without drafts: {same} of {asked}.\n"
    if report["left_out"]:
        names = ", ".join(f"{question['domain']} {question['question_id']}" for question in report["left_out"])
        yield f"Left out, as they do not fit the context: {names}.\n"


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _temperature(report: Report, temperature: float) -> Iterator[str]:
    some = rows(report, temperature)
    yield f"## T = {temperature:g}\n"
    yield "Tokens a round:\n"
    yield _matrix(report, some, lambda cell: cell["tokens_per_round"])
    yield "Speedup:\n"
    yield _matrix(report, some, lambda cell: cell["speedup"])
    if own_cells(some):
        yield "Each language with its own drafter:\n"
        yield _own_table(report, some, temperature)


def _matrix(report: Report, some: Sequence[Row], figure: Callable[[Cell], FigureRecord]) -> str:
    lines = [f"| questions | {' | '.join(report['drafters'])} |", "|---|" + "---:|" * len(report["drafters"])]
    for row in some:
        shown = ["" if cell is None else _bold(f"{figure(cell)['mean']:.2f}", cell["is_own"]) for cell in row.cells]
        lines.append(f"| {row.label} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _bold(text: str, is_bold: bool) -> str:
    return f"**{text}**" if is_bold else text


def _own_table(report: Report, some: Sequence[Row], temperature: float) -> str:
    lines = [
        "| questions | drafter | number | tokens a round | accepted at offset 1, 2, ... | tokens/s | plain | speedup |",
        "|---|---|---:|---:|---|---:|---:|---:|",
    ]
    for row, cell in own_cells(some):
        accepted = ", ".join(f"{share:.2f}" for share in cell["acceptance_by_offset"])
        lines.append(
            f"| {row.label} | {cell['drafter']} | {row.plain['num_questions']} | {_spread(cell['tokens_per_round'])} "
            f"| {accepted} | {cell['tokens_per_s']['mean']:.1f} | {row.plain['tokens_per_s']['mean']:.1f} "
            f"| {_spread(cell['speedup'])} |"
        )
    for mean in report["own_means"]:
        if mean["temperature"] == temperature:
            name = "mean of all" if mean["domain"] == ALL else f"mean of {mean['domain']}"
            lines.append(f"| {name} | | | {mean['tokens_per_round']:.2f} | | | | {mean['speedup']:.2f} |")
    return "\n".join(lines) + "\n"


def _spread(figure: FigureRecord) -> str:
    low, high = figure["ci95"]
    std = "" if figure["std"] is None else f" +- {figure['std']:.2f}"
    return f"{figure['mean']:.2f}{std} ({low:.2f} to {high:.2f})"
