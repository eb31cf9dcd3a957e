"""The candidates in order, the one to train, and whether it pays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from training.planning.coverage import Coverage, row_counts
from training.planning.hardware import Hardware
from training.planning.model import Forecast, RoundCosts, forecast, needed_acceptance, round_costs
from training.planning.shapes import DecoderShape, drafter_shapes
from training.planning.trained import Trained

GIVEN_UP = 0.05
"""Share of the best speedup that is given up for more weights: a larger drafter may foresee more, which acceptance,
assumed the same for all, does not show."""


@dataclass(frozen=True)
class Candidate:
    """A drafter and what is expected of it."""

    shape: DecoderShape
    costs: RoundCosts
    acceptance: float
    name: str = ""
    """Of a drafter that is there already."""

    @cached_property
    def expected(self) -> Forecast:
        return forecast(self.costs, self.acceptance)

    @property
    def weights_in_layers(self) -> int:
        return self.shape.layers * self.shape.layer_weights

    def needed(self, speedup: float) -> float | None:
        """The acceptance that gives this speedup; None if none does."""
        return needed_acceptance(self.costs, speedup)


@dataclass(frozen=True, slots=True)
class Plan:
    """What was found for one target on one machine."""

    candidates: tuple[Candidate, ...]
    """One a depth and width, the fastest first."""
    trained: tuple[Candidate, ...]
    choice: Candidate
    wanted: float
    """The speedup from which on a drafter is worth its training."""

    @property
    def pays(self) -> bool:
        return self.choice.expected.speedup >= self.wanted

    @property
    def verdict(self) -> str:
        """In two sentences: train this one, or why not and what would have to change."""
        shape, expected, needed = self.choice.shape, self.choice.expected, self.choice.needed(self.wanted)
        if self.pays:
            return (
                f"Train {_words(shape)}: {expected.speedup:.2f} times plain decoding is expected of blocks of "
                f"{expected.num_drafted} at acceptance {self.choice.acceptance:.2f}. "
                f"It breaks even at {self.choice.needed(1.0):.2f} and gives {self.wanted:g} from {needed:.2f} on."
            )
        best = f"the best, {_words(shape)}, is expected to give {expected.speedup:.2f}"
        if needed is not None:
            return (
                f"None pays at acceptance {self.choice.acceptance:.2f}: {best}, and {self.wanted:g} takes acceptance "
                f"{needed:.2f}. {_what_costs(self.choice)}"
            )
        most = forecast(self.choice.costs, 1.0).speedup
        return (
            f"None can pay here: {best}, and no more than {most:.2f} if all its drafts were accepted. "
            f"{_what_costs(self.choice)}"
        )


def make_plan(
    target: DecoderShape,
    hardware: Hardware,
    acceptance: float,
    coverage: Coverage | None = None,
    trained: Iterable[Trained] = (),
    wanted: float = 1.1,
) -> Plan:
    """Judge the grid of shapes; `acceptance` is that of a drafter with the whole vocabulary."""
    grid = [
        Candidate(shape, round_costs(target, shape, hardware), acceptance * (coverage(shape.rows) if coverage else 1.0))
        for shape in drafter_shapes(target, row_counts(target.rows, coverage))
    ]
    floor = (1 - GIVEN_UP) * max(one.expected.speedup for one in grid)
    by_size = groupby(grid, key=lambda one: (one.shape.layers, one.shape.hidden_size))
    candidates = [largest_above(list(of_size), floor) for _, of_size in by_size]
    return Plan(
        tuple(sorted(candidates, key=lambda one: -one.expected.speedup)),
        tuple(
            Candidate(one.shape, round_costs(target, one.shape, hardware), one.acceptance, one.name) for one in trained
        ),
        largest_above(candidates, floor),
        wanted,
    )


def largest_above(candidates: Sequence[Candidate], floor: float) -> Candidate:
    """The one with most weights in its layers that reaches this speedup, of equals the fastest; else the fastest."""
    fast = [one for one in candidates if one.expected.speedup >= floor]
    if not fast:
        return max(candidates, key=lambda one: one.expected.speedup)
    return max(fast, key=lambda one: (one.weights_in_layers, one.expected.speedup))


def _words(shape: DecoderShape) -> str:
    layers = "1 layer" if shape.layers == 1 else f"{shape.layers} layers"
    return f"{layers} of {shape.hidden_size} (MLP {shape.intermediate_size}) with {shape.rows:,} rows"


def _what_costs(candidate: Candidate) -> str:
    """Which part of a round's extra time is the largest, and what makes it smaller."""
    costs, num_drafted = candidate.costs, candidate.expected.num_drafted
    parts = {
        "drafting; a drafter with less fixed cost a pass, or a larger target, would change that": (
            num_drafted * costs.draft_s
        ),
        "the rows to verify; a machine with more arithmetic for its bandwidth would change that": (
            costs.step_s[num_drafted] - costs.step_s[0]
        ),
        "handing blocks over; drafters in the target's step (--placement target) would change that": costs.handover_s,
    }
    extra_s, plain_s = costs.round_s(num_drafted) - costs.step_s[0], costs.step_s[0]
    reason = max(parts, key=lambda part: parts[part])
    return (
        f"A plain step takes {1e3 * plain_s:.2f} ms, a round with {num_drafted} drafted {1e3 * extra_s:.2f} ms more, "
        f"most of it for {reason}."
    )
