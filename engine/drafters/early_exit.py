"""When to stop drafting: where the drafter is less sure than a threshold that follows what is accepted.

The rule of Draft & Verify (2309.08168). The token at which it stops stays in the draft: a draft that drops tokens for
what they are has another law than the one they were drawn from, which verifiers that weigh by that law would not know.
"""

from __future__ import annotations

from dataclasses import dataclass

TARGET_ACCEPTANCE = 0.9
_STEP = 0.01
_KEEP_ACCEPTANCE, _KEEP_THRESHOLD = 0.5, 0.9
"""Weights of what was, in the moving averages of acceptance and threshold."""


@dataclass(slots=True)
class AdaptiveExit:
    """One threshold for all sessions, which one request leaves to the next."""

    threshold: float = 0.6
    """0 at the start never stops a draft, and stays 0."""
    acceptance: float = TARGET_ACCEPTANCE
    """Of the last drafts, a moving average."""
    adapts: bool = True

    def __post_init__(self) -> None:
        self.adapts = self.adapts and self.threshold > 0.0

    def stops_at(self, confidence: float) -> bool:
        """Whether a token of which the drafter was so sure is the last one."""
        return confidence < self.threshold

    def observe(self, num_accepted: int, num_drafted: int, max_drafted: int) -> None:
        """So many tokens of a draft were accepted; it could have had `max_drafted`."""
        if not self.adapts or num_drafted == 0:
            return
        share = num_accepted / num_drafted
        self.acceptance = _KEEP_ACCEPTANCE * self.acceptance + (1 - _KEEP_ACCEPTANCE) * share
        wanted = self.threshold
        if self.acceptance < TARGET_ACCEPTANCE:
            wanted += _STEP
        elif num_drafted < max_drafted:
            wanted -= _STEP
        threshold = _KEEP_THRESHOLD * self.threshold + (1 - _KEEP_THRESHOLD) * wanted
        self.threshold = min(max(threshold, 0.0), 1.0)
