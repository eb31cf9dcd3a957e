"""Top-k and top-p, and the law that sampling follows. T rows, S rows that truncate, V vocabulary.

Tokens are ordered by logit descending, then id ascending. Top-k keeps the first k of that order; top-p then keeps the
shortest prefix of what is left that has the probability asked for. What is kept is a prefix of the order, so two
numbers describe it: the logit and the id of its last token.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from polydraft_kernels.packing import MIN_TEMPERATURE, SamplingRows
from polydraft_kernels.reference.choose_greedy import choose_greedy


class SupportEnds(NamedTuple):
    """The last token kept of each row."""

    logit_T: Tensor
    """float32; -inf keeps all."""
    id_T: Tensor
    """int64; the vocabulary size keeps all."""


def support_ends(logits_TV: Tensor, rows: SamplingRows) -> SupportEnds | None:
    """Where the support of each row ends, None if no row truncates; sorts only the rows that do.

    Asks the device which rows those are; `support_ends_of_all_rows` does not.
    """
    if not (rows.may_sample and rows.may_truncate):
        return None
    num_rows, vocab_size = logits_TV.shape
    truncates_T = (rows.temperature_T > 0) & ((rows.top_k_T > 0) | (rows.top_p_T < 1))
    rows_S = truncates_T.nonzero()[:, 0]
    if rows_S.shape[0] == 0:
        return None
    ends = SupportEnds(
        torch.full((num_rows,), float("-inf"), dtype=torch.float32, device=logits_TV.device),
        torch.full((num_rows,), vocab_size, dtype=torch.int64, device=logits_TV.device),
    )
    rows = rows.select(rows_S)
    longest = int(torch.where(rows.top_k_T > 0, rows.top_k_T, vocab_size).clamp_max(vocab_size).max())
    has_top_p = bool((rows.top_p_T < 1).any())
    ends_S = _ends_by_sorting(logits_TV[rows_S].float(), rows, longest, has_top_p=has_top_p)
    ends.logit_T[rows_S], ends.id_T[rows_S] = ends_S
    return ends


def support_ends_of_all_rows(logits_TV: Tensor, rows: SamplingRows) -> SupportEnds | None:
    """The same without waiting for the device, as a CUDA graph needs it: sorts every row if any row may truncate.

    Rows that do not truncate end at their last token.
    """
    if not (rows.may_sample and rows.may_truncate):
        return None
    return _ends_by_sorting(logits_TV.float(), rows, logits_TV.shape[1], has_top_p=True)


def support_mask(logits_TV: Tensor, ends: SupportEnds) -> Tensor:
    """Which tokens are kept, bool [T, V]; NaN never is."""
    ids_V = torch.arange(logits_TV.shape[1], device=logits_TV.device)
    logits_TV = logits_TV.float()
    end_T1 = ends.logit_T[:, None]
    return (logits_TV > end_T1) | ((logits_TV == end_T1) & (ids_V <= ends.id_T[:, None]))


def target_probs(logits_TV: Tensor, rows: SamplingRows) -> Tensor:
    """The law of the next token after all transforms, float64 [T, V]; one-hot where the temperature is 0."""
    scaled_TV = logits_TV.double() / rows.temperature_T.clamp_min(MIN_TEMPERATURE)[:, None]
    ends = support_ends(logits_TV, rows)
    if ends is not None:
        scaled_TV = scaled_TV.masked_fill(~support_mask(logits_TV, ends), float("-inf"))
    greedy_T1 = choose_greedy(logits_TV)[:, None]
    one_hot_TV = torch.zeros_like(scaled_TV).scatter_(1, greedy_T1, 1.0)
    sampled_T1 = (rows.temperature_T > 0)[:, None]
    return torch.where(sampled_T1, torch.softmax(scaled_TV, dim=1), one_hot_TV)


def _ends_by_sorting(logits_SV: Tensor, rows: SamplingRows, longest: int, *, has_top_p: bool) -> SupportEnds:
    """`longest` is at least what top-k leaves of any row."""
    vocab_size = logits_SV.shape[1]
    sorted_SV = _largest_descending(logits_SV.masked_fill(logits_SV.isnan(), float("-inf")), longest)
    num_kept_S = torch.where(rows.top_k_T > 0, rows.top_k_T, vocab_size).clamp_max(vocab_size)
    if has_top_p:
        num_kept_S = torch.where(rows.top_p_T < 1, _num_in_top_p(sorted_SV, num_kept_S, rows), num_kept_S)
    end_S1 = sorted_SV.gather(1, (num_kept_S - 1)[:, None])
    # Of the tokens that tie with the last one kept, those with the lowest ids are kept.
    num_ties_kept_S = num_kept_S - (sorted_SV > end_S1).sum(dim=1)
    rank_among_ties_SV = (logits_SV == end_S1).cumsum(dim=1)
    is_reached_SV = rank_among_ties_SV >= num_ties_kept_S[:, None]
    return SupportEnds(end_S1[:, 0], vocab_size - is_reached_SV.sum(dim=1))


def _num_in_top_p(sorted_SV: Tensor, top_k_S: Tensor, rows: SamplingRows) -> Tensor:
    """Length of the shortest prefix with the mass asked for, of what top-k has left."""
    temperature_S1 = rows.temperature_T.clamp_min(MIN_TEMPERATURE)[:, None]
    weights_SV = (sorted_SV.double() - sorted_SV[:, :1].double()).div_(temperature_S1).exp_()
    in_top_k_SV = torch.arange(sorted_SV.shape[1], device=sorted_SV.device) < top_k_S[:, None]
    mass_SV = (weights_SV * in_top_k_SV).cumsum(dim=1)
    # The last column is the sum in the same order of additions, so a row's end does not depend on how torch reduces.
    wanted_S1 = rows.top_p_T[:, None] * mass_SV[:, -1:]
    return ((mass_SV < wanted_S1).sum(dim=1) + 1).minimum(top_k_S)


def _largest_descending(values_SV: Tensor, count: int) -> Tensor:
    if values_SV.device.type != "cpu":
        return values_SV.sort(dim=1, descending=True).values[:, :count]
    # numpy sorts without indices and vectorised: 8192 values in a tenth of torch's time.
    array_SV = values_SV.numpy()
    if count < array_SV.shape[1]:
        array_SV = np.partition(array_SV, -count, axis=1)[:, -count:]
    return torch.from_numpy(np.sort(array_SV, axis=1)).flip(1)
