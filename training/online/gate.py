"""Whether what was learned is good enough to serve: a pure function of figures."""

from __future__ import annotations

from dataclasses import dataclass

from training.online.acceptance import Acceptance


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a shadow may take the current version's place, and why."""

    is_promoted: bool
    reason: str
    current: Acceptance
    shadow: Acceptance


def judge(current: Acceptance, shadow: Acceptance, tolerance: float) -> Judgement:
    """A shadow is promoted if it foresees the held-out answers not worse than the current version by `tolerance`."""
    is_promoted = shadow.agreement >= current.agreement - tolerance
    told = f"agreement {shadow.agreement:.4f} against {current.agreement:.4f}, tolerance {tolerance:g}"
    return Judgement(is_promoted, ("as good: " if is_promoted else "worse: ") + told, current, shadow)
