"""What a round costs and brings: the speed model of METHODS 16 and 19 (2310.07177, 2402.01528).

    pass(rows) = step + layers * (layer + (rows - 1) * row) + read, computed     microseconds of one forward pass
    read       = bytes of the matrices / bandwidth
    computed   = 2 * weights * rows / peak
    round(n)   = n * drafter's pass(1) + target's pass(n + 1) + hand-over
    tokens(n)  = (1 - a^(n + 1)) / (1 - a)                                       a: acceptance of one drafted token
    speedup(n) = tokens(n) / round(n) * target's pass(1)

A GPU reads and computes side by side, so a pass takes the longer of the two. A processor core issues both itself: what
rows beyond the first compute comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass

from training.planning.hardware import Hardware, Runner
from training.planning.shapes import DecoderShape

MAX_DRAFTED = 16
_BISECTIONS = 50


@dataclass(frozen=True, slots=True)
class RoundCosts:
    """Seconds of a round's parts."""

    draft_s: float
    """A drafted token."""
    step_s: tuple[float, ...]
    """The target's step with 0, 1, 2, ... drafted tokens."""
    handover_s: float = 0.0

    def round_s(self, num_drafted: int) -> float:
        """A round with at least one drafted token."""
        return num_drafted * self.draft_s + self.step_s[num_drafted] + self.handover_s


@dataclass(frozen=True, slots=True)
class Forecast:
    """The best draft length and what it brings."""

    num_drafted: int
    tokens_a_round: float
    speedup: float
    """Over decoding without drafts."""


def pass_s(shape: DecoderShape, runner: Runner, rows: int = 1) -> float:
    """One forward pass over `rows` tokens of one stream."""
    rows = max(rows, runner.min_rows)
    fixed_s = 1e-6 * (runner.step_fixed_us + shape.layers * (runner.layer_fixed_us + (rows - 1) * runner.row_fixed_us))
    read_s = shape.pass_weights * runner.weight_bytes / (1e9 * runner.bandwidth_gb_s)
    row_s = 2 * shape.pass_weights / (1e12 * runner.tflops)
    if runner.overlaps:
        return fixed_s + max(read_s, rows * row_s)
    return fixed_s + read_s + (rows - 1) * row_s


def round_costs(target: DecoderShape, drafter: DecoderShape, hardware: Hardware) -> RoundCosts:
    """For chains of up to `MAX_DRAFTED` tokens."""
    step_s = tuple(pass_s(target, hardware.target, rows) for rows in range(1, MAX_DRAFTED + 2))
    return RoundCosts(pass_s(drafter, hardware.drafter), step_s, 1e-6 * hardware.round_fixed_us)


def tokens_a_round(acceptance: float, num_drafted: int) -> float:
    """Accepted ones and the target's own: 1 + a + a^2 + ... + a^n."""
    return sum(acceptance**length for length in range(num_drafted + 1))


def forecast(costs: RoundCosts, acceptance: float) -> Forecast:
    """At the best number of drafted tokens, at least one; of equals the shortest."""
    plain_s = costs.step_s[0]

    def at(num_drafted: int) -> Forecast:
        tokens = tokens_a_round(acceptance, num_drafted)
        return Forecast(num_drafted, tokens, tokens * plain_s / costs.round_s(num_drafted))

    return max((at(length) for length in range(1, len(costs.step_s))), key=lambda found: found.speedup)


def needed_acceptance(costs: RoundCosts, speedup: float) -> float | None:
    """The least acceptance with which the best draft length gives that speedup; None if even 1 does not."""
    if forecast(costs, 1.0).speedup < speedup:
        return None
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if forecast(costs, middle).speedup < speedup:
            low = middle
        else:
            high = middle
    return high
