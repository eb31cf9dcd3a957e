"""What the target would rather have said where it overruled a draft: what drafters learn from (OSD, 2310.07177).

A round walks down the draft as far as the target agrees. The row at which the walk ends predicts the round's free
token, so its law is the correction of what was drafted there. Laws are those of temperature 1, before top-k and top-p.

Shape letters: R logit rows, V vocabulary, N places, K likeliest tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.tree import TokenTree


@dataclass(frozen=True, slots=True)
class LikelyTokens:
    """The likeliest tokens of one place, best first, and their probabilities."""

    token_ids: tuple[int, ...]
    probs: tuple[float, ...]

    def first(self, count: int) -> LikelyTokens:
        return LikelyTokens(self.token_ids[:count], self.probs[:count])


@dataclass(frozen=True, slots=True)
class Correction:
    """The target's law of the token at `position` of the whole sequence."""

    position: int
    likely: LikelyTokens


def is_overruled(tree: TokenTree, path: tuple[int, ...]) -> bool:
    """Whether the draft went on where the target went another way: `path`, its accepted nodes, is not its deepest."""
    return len(path) < max(tree.depths(), default=0)


def likeliest_tokens(logits_RV: Tensor, rows_N: Tensor, count: int) -> Tensor:
    """Probabilities and ids of each row's `count` likeliest tokens, float64 [N, 2 K]: ids are whole numbers."""
    logits_NV = logits_RV.index_select(0, rows_N).float()
    best_NK, ids_NK = logits_NV.topk(min(count, logits_NV.shape[1]))
    probs_NK = (best_NK - logits_NV.logsumexp(1, keepdim=True)).exp()
    return torch.cat((probs_NK.double(), ids_NK.double()), dim=1)


def read_likely(row: list[float]) -> LikelyTokens:
    """One row of `likeliest_tokens` on the host."""
    count = len(row) // 2
    return LikelyTokens(tuple(map(int, row[count:])), tuple(row[:count]))
