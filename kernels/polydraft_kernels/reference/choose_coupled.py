"""The target's choice under coupled sampling (Daliri, Musco, Suresh 2408.07978). S sampled rows.

    choice = argmax over the support of  logit / temperature + gumbel(key, position, id)

in float64, lowest id on ties. It is argmax(log p + gumbel): the normaliser is the same for all tokens of a row.
The choice follows p because the noise is Gumbel, and depends on the target and the seed alone. `choose_in_float64` is
the specification; on CPU `screened_choice` and `truncated_choice` find the same token sooner.
"""

from __future__ import annotations

import torch
from torch import Tensor

from polydraft_kernels.noise_rows import gumbel_of_states, row_states
from polydraft_kernels.packing import MIN_TEMPERATURE, SamplingRows
from polydraft_kernels.reference.choose_greedy import choose_greedy, first_argmax
from polydraft_kernels.reference.screened_choice import NOT_CHOSEN, choose_screened
from polydraft_kernels.reference.support import support_ends, support_mask
from polydraft_kernels.reference.truncated_choice import choose_truncated

_ELEMENTS_AT_ONCE = 1 << 15
"""float64 numbers worked on at a time: what stays in a core's cache (256 KiB)."""


def choose_coupled(logits_TV: Tensor, rows: SamplingRows) -> Tensor:
    """Token of each row, int64 [T]; rows of temperature 0 are `choose_greedy`."""
    if not rows.may_sample:
        return choose_greedy(logits_TV)
    is_sampled_T = rows.temperature_T > 0
    if bool(is_sampled_T.all()):
        return _choose_sampled(logits_TV, rows)
    rows_S = is_sampled_T.nonzero()[:, 0]
    choices_T = choose_greedy(logits_TV)
    choices_T[rows_S] = _choose_sampled(logits_TV[rows_S], rows.select(rows_S))
    return choices_T


def _choose_sampled(logits_SV: Tensor, rows: SamplingRows) -> Tensor:
    ends = support_ends(logits_SV, rows)
    on_cpu = logits_SV.device.type == "cpu" and logits_SV.dtype != torch.float64 and 0 not in logits_SV.shape
    if not on_cpu:
        if ends is not None:
            logits_SV = logits_SV.masked_fill(~support_mask(logits_SV, ends), float("-inf"))
        return choose_in_float64(logits_SV, rows)
    choices_S = choose_screened(logits_SV, rows) if ends is None else choose_truncated(logits_SV, rows, ends)
    for choose in (choose_screened, choose_in_float64):
        is_left_S = choices_S == NOT_CHOSEN
        if not bool(is_left_S.any()):
            break
        rows_left = is_left_S.nonzero()[:, 0]
        choices_S[rows_left] = choose(logits_SV[rows_left], rows.select(rows_left))
    return choices_S


def choose_in_float64(logits_SV: Tensor, rows: SamplingRows) -> Tensor:
    """The formula as it stands, int64 [S]; tokens outside the support are -inf."""
    num_rows, vocab_size = logits_SV.shape
    choices_S = torch.empty(num_rows, dtype=torch.int64, device=logits_SV.device)
    states_S = row_states(rows.keys_T, rows.positions_T)
    temperatures_S1 = rows.temperature_T.clamp_min(MIN_TEMPERATURE)[:, None]
    num_at_once = max(1, _ELEMENTS_AT_ONCE // vocab_size)
    for first in range(0, num_rows, num_at_once):
        block = slice(first, first + num_at_once)
        scores_SV = logits_SV[block].double().div_(temperatures_S1[block])
        scores_SV += gumbel_of_states(states_S[block], vocab_size)
        choices_S[block] = first_argmax(scores_SV)
    return choices_S
