"""The target's choice under coupled sampling (Daliri, Musco, Suresh 2408.07978). S sampled rows.

    choice = argmax over the support of  logit / temperature + gumbel(key, position, id)

in float64, lowest id on ties. It is argmax(log p + gumbel): the normaliser is the same for all tokens of a row.
The choice follows p because the noise is Gumbel, and depends on the target and the seed alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from polydraft_kernels.noise_rows import gumbel_of_states, row_states
from polydraft_kernels.packing import MIN_TEMPERATURE, SamplingRows
from polydraft_kernels.reference.choose_greedy import choose_greedy, first_argmax
from polydraft_kernels.reference.support import support_ends, support_mask

_BLOCK_ELEMENTS = 1 << 15
"""float64 numbers worked on at a time: what stays in a core's cache (256 KiB)."""


def choose_coupled(logits_TV: Tensor, rows: SamplingRows) -> Tensor:
    """Token of each row, int64 [T]; rows of temperature 0 are `choose_greedy`."""
    if not rows.may_sample:
        return choose_greedy(logits_TV)
    rows_S = (rows.temperature_T > 0).nonzero()[:, 0]
    if rows_S.shape[0] == logits_TV.shape[0]:
        return _choose_sampled(logits_TV, rows)
    choices_T = choose_greedy(logits_TV)
    choices_T[rows_S] = _choose_sampled(logits_TV[rows_S], rows.select(rows_S))
    return choices_T


def _choose_sampled(logits_SV: Tensor, rows: SamplingRows) -> Tensor:
    num_rows, vocab_size = logits_SV.shape
    choices_S = torch.empty(num_rows, dtype=torch.int64, device=logits_SV.device)
    states_S = row_states(rows.keys_T, rows.positions_T)
    num_at_once = max(1, _BLOCK_ELEMENTS // vocab_size)
    for first in range(0, num_rows, num_at_once):
        block = slice(first, first + num_at_once)
        choices_S[block] = _choose_block(logits_SV[block], states_S[block], rows.select(block))
    return choices_S


def _choose_block(logits_SV: Tensor, states_S: Tensor, rows: SamplingRows) -> Tensor:
    scores_SV = logits_SV.double().div_(rows.temperature_T.clamp_min(MIN_TEMPERATURE)[:, None])
    scores_SV += gumbel_of_states(states_S, logits_SV.shape[1])
    ends = support_ends(logits_SV, rows)
    if ends is not None:
        scores_SV.masked_fill_(~support_mask(logits_SV, ends), float("-inf"))
    return first_argmax(scores_SV)
