"""How far a drafter's law is from the target's: the losses of DistillSpec (2310.08461, section 3).

The target's law is kept as its K likeliest tokens; all other tokens are one bucket, the tail. A divergence of the
bucketed laws is a lower bound of the one between whole rows, and equal to it when K is the whole vocabulary.

Shape letters: N places, H head rows of the drafter, K likeliest tokens of the target, B = K + 1 buckets, tail last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

ABSENT = -1
"""Stands in `rows_NK` for a likely token that the drafter has no head row for; its mass belongs to the tail."""

Divergence = Callable[[Tensor, Tensor], Tensor]
"""From `logq_NB` (the drafter, natural logarithms) and `p_NB` (the target) to nats a place, [N]."""


def buckets(logits_NH: Tensor, rows_NK: Tensor, probs_NK: Tensor) -> tuple[Tensor, Tensor]:
    """The laws of drafter and target over the likely tokens and the tail: `logq_NB` and `p_NB`, float32.

    `rows_NK` int64 in [0, H) or `ABSENT`, no row twice in a place; `probs_NK` float32, their probabilities.
    """
    absent_NK = rows_NK == ABSENT
    num_rows = logits_NH.shape[1]
    logits_NH = logits_NH.float()
    # One more column takes what has no row, so that it hides nobody else's.
    columns_NK = rows_NK.masked_fill(absent_NK, num_rows)
    likely_NH = torch.zeros(logits_NH.shape[0], num_rows + 1, dtype=torch.bool, device=logits_NH.device)
    likely_NH = likely_NH.scatter_(1, columns_NK, True)[:, :num_rows]
    normaliser_N1 = logits_NH.logsumexp(1, keepdim=True)
    logq_NK = logits_NH.gather(1, rows_NK.clamp_min(0)) - normaliser_N1
    tail_N1 = _log_sum(logits_NH.masked_fill(likely_NH, -torch.inf)) - normaliser_N1
    p_NK = probs_NK.masked_fill(absent_NK, 0.0)
    p_tail_N1 = (1.0 - p_NK.sum(1, keepdim=True)).clamp_min(0.0)
    # A bucket that is nobody's has probability 0 on both sides.
    logq_NB = torch.cat([logq_NK.masked_fill(absent_NK, -torch.inf), tail_N1], dim=1)
    return logq_NB, torch.cat([p_NK, p_tail_N1], dim=1)


def _log_sum(logits_NH: Tensor) -> Tensor:
    """Log of the sum of exponentials, [N, 1]; -inf, with gradient zero, where nothing is left."""
    empty_N1 = torch.isneginf(logits_NH).all(1, keepdim=True)
    return logits_NH.masked_fill(empty_N1, 0.0).logsumexp(1, keepdim=True).masked_fill(empty_N1, -torch.inf)


def forward_kl(logq_NB: Tensor, p_NB: Tensor) -> Tensor:
    """KL(p || q): covers all that the target might say."""
    return _relative_entropy(p_NB, p_NB.clamp_min(_LEAST).log(), _finite(logq_NB))


def reverse_kl(logq_NB: Tensor, p_NB: Tensor) -> Tensor:
    """KL(q || p): keeps to what the target is sure to say."""
    return _relative_entropy(logq_NB.exp(), _finite(logq_NB), p_NB.clamp_min(_LEAST).log())


def jensen_shannon(logq_NB: Tensor, p_NB: Tensor, beta: float = 0.5) -> Tensor:
    """beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q."""
    q_NB = logq_NB.exp()
    log_mixture_NB = (beta * p_NB + (1 - beta) * q_NB).clamp_min(_LEAST).log()
    of_target_N = _relative_entropy(p_NB, p_NB.clamp_min(_LEAST).log(), log_mixture_NB)
    return beta * of_target_N + (1 - beta) * _relative_entropy(q_NB, _finite(logq_NB), log_mixture_NB)


def total_variation(logq_NB: Tensor, p_NB: Tensor) -> Tensor:
    """Half the L1 distance: one minus the acceptance of rejection sampling (Leviathan et al. 2211.17192, 3.2)."""
    return 0.5 * (p_NB - logq_NB.exp()).abs().sum(1)


DIVERGENCES: Mapping[str, Divergence] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jensen_shannon": jensen_shannon,
    "total_variation": total_variation,
}

_LEAST = 1e-9
"""Keeps logarithms finite: what the target's likely tokens leave to the tail may be zero."""


def _finite(log_NB: Tensor) -> Tensor:
    """-inf is zero probability, and 0 * log 0 is 0: any finite number does."""
    return log_NB.masked_fill(torch.isneginf(log_NB), 0.0)


def _relative_entropy(a_NB: Tensor, log_a_NB: Tensor, log_b_NB: Tensor) -> Tensor:
    return (a_NB * (log_a_NB - log_b_NB)).sum(1)
