"""How a drafter chooses a token so that the target is likely to choose it too (Daliri, Musco, Suresh 2024).

At temperature 0 both take their best score. Else the target takes argmax(log p + G) with Gumbel noise G keyed by (seed,
position, token id), and the drafter argmax(log q + G) with the same G, where q went through the same temperature,
top-k and top-p. The text does not depend on it: the target verifies by its own choice alone.
"""

from __future__ import annotations

import numpy as np
import torch
from polydraft_kernels.noise import Float64s, Stream, UInt64s, bits_of_hashed, gumbel_of_bits, row_state
from torch import Tensor

from engine.sampling import SamplingParams

# Shape letters: V tokens the drafter may propose, K tokens left by top-k and top-p


MAX_SUPPORT = 256
"""Most tokens kept under top-k or top-p: sorting more costs as much as drafting a token and hardly hits more often."""


def coupled_choice(logits_V: Tensor, sampling: SamplingParams, position: int, hashed_ids_V: UInt64s) -> int:
    """The row of `logits_V` chosen for the token at `position` of the sequence; the temperature is above 0.

    `hashed_ids_V`: `hash_ids` of the target's id of each row.
    """
    scores_V = logits_V.double() / sampling.temperature
    noise_row = row_state(sampling.seed, Stream.SHARED, position)
    if sampling.top_k == 0 and sampling.top_p >= 1.0:
        return int((scores_V.cpu().numpy() + _noise(noise_row, hashed_ids_V)).argmax())

    scores_K, rows_K = _support(scores_V, sampling)
    kept = rows_K.cpu().numpy()
    best = (scores_K.cpu().numpy() + _noise(noise_row, hashed_ids_V[kept])).argmax()
    return int(kept[best])


def _noise(noise_row: int, hashed_ids: UInt64s) -> Float64s:
    return gumbel_of_bits(bits_of_hashed(noise_row, hashed_ids))


def _support(scores_V: Tensor, sampling: SamplingParams) -> tuple[Tensor, Tensor]:
    """Scores and rows of the tokens that top-k, then top-p leave, best first."""
    num_kept = min(sampling.top_k or MAX_SUPPORT, MAX_SUPPORT, len(scores_V))
    scores_K, rows_K = torch.topk(scores_V, num_kept)
    if sampling.top_p < 1.0:
        probs_K = torch.softmax(scores_K, dim=0)
        before_K = probs_K.cumsum(dim=0) - probs_K
        num_kept = max(1, int(np.searchsorted(before_K.cpu().numpy(), sampling.top_p)))
    return scores_K[:num_kept], rows_K[:num_kept]
