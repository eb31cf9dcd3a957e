"""The sampling rule of a request."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Transforms in this order: temperature, top-k, top-p. With a seed the text is a function of the target alone."""

    temperature: float = 0.0
    """0 takes the most likely token, the lowest id on ties."""
    top_k: int = 0
    """Keep this many most likely tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the smallest set of most likely tokens that has this probability."""
    seed: int = 0
    """64-bit; keys the noise."""

    def problem(self) -> str | None:
        """What is wrong with a rule that came from elsewhere, or None."""
        if not (isfinite(self.temperature) and self.temperature >= 0 and 0 < self.top_p <= 1):
            return f"temperature {self.temperature} with top-p {self.top_p} is no sampling rule"
        return None

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0.0
