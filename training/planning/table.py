"""A plan as people read it, and as one JSON object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from training.planning.hardware import Sourced
from training.planning.plan import Candidate, Plan
from training.planning.shapes import DecoderShape

SHOWN = 12
_OF_FURTHER_ROWS = {"tflops", "row_fixed_us", "min_rows"}
"""A drafter's passes have one row."""
_HEADER = "layers  width    MLP     rows  weights  ms a token  block  tokens  accept.  speedup  even at  best at"
_EXPLAINED = (
    "block: best draft length; tokens: a round; accept.: acceptance; even at: the one with which it is as fast as\n"
    "plain decoding; best at: the one with which it is as fast as the first line"
)


@dataclass(frozen=True, slots=True)
class Assumption:
    """Something that a plan takes for granted."""

    name: str
    value: str
    source: str
    """given, measured here, a datasheet, or assumed and why."""


def assumptions(sourced: Sourced, others: Sequence[Assumption]) -> list[Assumption]:
    """The figures of the machine behind the others."""
    hardware = sourced.hardware
    figures = {"round_fixed_us": hardware.round_fixed_us}
    for owner, runner in (("target", hardware.target), ("drafter", hardware.drafter)):
        hidden = {"overlaps"} | (_OF_FURTHER_ROWS if owner == "drafter" else set())
        figures |= {f"{owner}.{key}": value for key, value in runner.model_dump().items() if key not in hidden}
    return [
        *others,
        *(Assumption(name, f"{value:.4g}", sourced.sources.get(name, "assumed")) for name, value in figures.items()),
    ]


def as_text(plan: Plan, assumed: Sequence[Assumption]) -> str:
    """Assumptions, candidates, verdict, recipe."""
    names, values = (
        max(len(text) for text in column) for column in zip(*((a.name, a.value) for a in assumed), strict=True)
    )
    lines = [f"{one.name:<{names}}  {one.value:>{values}}  {one.source}" for one in assumed]
    fastest = plan.candidates[0].expected.speedup
    shown = [*plan.candidates[:SHOWN]]
    if plan.choice not in shown:
        shown.append(plan.choice)
    lines += ["", _HEADER]
    lines += [_line(one, fastest, "  <- choice" if one is plan.choice else "") for one in shown]
    lines += [_line(one, fastest, f"  {one.name}, trained") for one in plan.trained]
    lines += ["", _EXPLAINED, "", plan.verdict]
    if plan.pays:
        lines += ["", as_recipe(plan.choice.shape)]
    return "\n".join(lines)


def _line(one: Candidate, fastest: float, remark: str) -> str:
    shape, expected = one.shape, one.expected
    return (
        f"{shape.layers:6d} {shape.hidden_size:6d} {shape.intermediate_size:6d} {shape.rows:8,d} "
        f"{_short(shape.num_parameters):>8s} {1e3 * one.costs.draft_s:11.3f} {expected.num_drafted:6d} "
        f"{expected.tokens_a_round:7.2f} {one.acceptance:8.2f} {expected.speedup:8.2f} "
        f"{_share(one.needed(1.0)):>8s} {_share(one.needed(fastest)):>8s}{remark}"
    )


def _short(count: int) -> str:
    unit, name = (1e9, "B") if count >= 1e9 else (1e6, "M")
    return f"{count / unit:.{max(0, 2 - int(math.log10(max(count / unit, 1))))}f}{name}"


def _share(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f}"


def recipe(shape: DecoderShape) -> dict[str, dict[str, int]]:
    """What a recipe says of a drafter of this shape."""
    drafter = {
        "layers": shape.layers,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
    }
    return {"drafter": drafter, "trim": {"rows": shape.rows}}


def as_recipe(shape: DecoderShape) -> str:
    """The same as YAML, a line a part."""
    return "\n".join(
        f"{part}: {{{', '.join(f'{key}: {value}' for key, value in fields.items())}}}"
        for part, fields in recipe(shape).items()
    )


def as_json(plan: Plan, target: DecoderShape, sourced: Sourced, assumed: Sequence[Assumption]) -> dict[str, object]:
    """Everything that the text says, and all of the hardware's figures."""
    return {
        "target": asdict(target) | {"parameters": target.num_parameters},
        "hardware": sourced.hardware.model_dump(),
        "sources": sourced.sources,
        "assumptions": [asdict(one) for one in assumed],
        "plain_step_ms": 1e3 * plan.choice.costs.step_s[0],
        "candidates": [_candidate(one) for one in plan.candidates],
        "trained": [{"name": one.name} | _candidate(one) for one in plan.trained],
        "choice": _candidate(plan.choice),
        "wanted_speedup": plan.wanted,
        "needed_acceptance": plan.choice.needed(plan.wanted),
        "pays": plan.pays,
        "verdict": plan.verdict,
        "recipe": recipe(plan.choice.shape) if plan.pays else None,
    }


def _candidate(one: Candidate) -> dict[str, object]:
    return {
        "shape": asdict(one.shape),
        "parameters": one.shape.num_parameters,
        "draft_ms": 1e3 * one.costs.draft_s,
        "acceptance": one.acceptance,
        **asdict(one.expected),
        "break_even_acceptance": one.needed(1.0),
    }
