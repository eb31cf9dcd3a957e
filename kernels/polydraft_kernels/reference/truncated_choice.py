"""The coupled choice on CPU of rows that truncate: noise and scores for the tokens kept only. S rows, V vocabulary."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from polydraft_kernels import noise
from polydraft_kernels.noise_rows import hashed_vocabulary
from polydraft_kernels.packing import MIN_TEMPERATURE, SamplingRows
from polydraft_kernels.reference.screened_choice import NOT_CHOSEN
from polydraft_kernels.reference.support import SupportEnds


def choose_truncated(logits_SV: Tensor, rows: SamplingRows, ends: SupportEnds) -> Tensor:
    """Choice of each sampled row, int64 [S], `NOT_CHOSEN` for rows that keep every token."""
    values_SV = logits_SV.float().numpy()
    vocab_size = values_SV.shape[1]
    hashed_V = hashed_vocabulary(vocab_size, logits_SV.device).numpy().view(np.uint64)
    choices: list[int] = []
    columns = (rows.keys_T, rows.positions_T, rows.temperature_T, ends.logit_T, ends.id_T)
    of_rows = zip(values_SV, *(column.tolist() for column in columns), strict=True)
    for values_V, key, position, temperature, end_logit, end_id in of_rows:
        if end_id == vocab_size:
            choices.append(NOT_CHOSEN)
            continue
        ids_K = np.flatnonzero(values_V >= end_logit)
        ids_K = ids_K[(values_V[ids_K] > end_logit) | (ids_K <= end_id)]
        bits_K = noise.bits_of_hashed(noise.row_state(key, noise.Stream.SHARED, position), hashed_V[ids_K])
        scores_K = values_V[ids_K].astype(np.float64) / max(temperature, MIN_TEMPERATURE)
        scores_K += noise.gumbel_of_bits(bits_K)
        choices.append(int(ids_K[scores_K.argmax()]) if len(ids_K) > 0 else 0)
    return torch.tensor(choices, dtype=torch.int64)
