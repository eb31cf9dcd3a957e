"""Log-probabilities of committed tokens, and of the likeliest ones beside them, under the target's own law.

The law is that of temperature 1, before top-k and top-p: log softmax of the row's logits, in fp32. A row is computed by
itself, so under invariant numerics its bits are the same however many tokens a round commits.

Shape letters: R logit rows, V vocabulary, K likeliest tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_TOP_LOGPROBS = 20


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Of one committed token."""

    logprob: float
    top_ids: tuple[int, ...]
    """The likeliest tokens of its place, best first; of equal ones the lower id first."""
    top_logprobs: tuple[float, ...]


def token_logprobs(
    logits_RV: Tensor, rows: Sequence[int], token_ids: Sequence[int], count: int
) -> tuple[TokenLogprobs, ...]:
    """Of each token in the row that chose it, with `count` likeliest ones."""
    return tuple(_of_row(logits_RV[row], token_id, count) for row, token_id in zip(rows, token_ids, strict=True))


def _of_row(logits_V: Tensor, token_id: int, count: int) -> TokenLogprobs:
    logprobs_V = logits_V.float().log_softmax(dim=0)
    top_ids_K = _likeliest(logprobs_V, min(count, len(logprobs_V))) if count else torch.empty(0, dtype=torch.int64)
    told = torch.cat((logprobs_V[token_id, None], logprobs_V[top_ids_K.to(logprobs_V.device)])).tolist()
    return TokenLogprobs(told[0], tuple(top_ids_K.tolist()), tuple(told[1:]))


def _likeliest(logprobs_V: Tensor, count: int) -> Tensor:
    """Ids of the `count` largest. Which of equal values `topk` takes is not said, so it only finds the bound."""
    bound = logprobs_V.topk(count).values[-1]
    candidates_N = (logprobs_V >= bound).nonzero()[:, 0]  # by id
    order_N = logprobs_V[candidates_N].sort(descending=True, stable=True).indices
    return candidates_N[order_N][:count]
