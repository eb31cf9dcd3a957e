"""Rows that are hard to choose from in float32; shared by the tests of the screens on CPU, interpreter and GPU."""

from __future__ import annotations

import numpy as np
import torch
from polydraft_kernels.noise import signed_key
from polydraft_kernels.noise_rows import gumbel_rows
from polydraft_kernels.packing import SamplingRows
from torch import Tensor

TEMPERATURES = (1e-6, 1e-3, 0.1, 0.7, 1.0, 5.0, 1e4)


def sampled_rows(temperatures: list[float], seed: int) -> SamplingRows:
    count = len(temperatures)
    return SamplingRows.build(temperatures, [0] * count, [1.0] * count, [seed] * count, list(range(count)))


def random_rows(vocab_size: int, spread: float, offset: float, seed: int) -> tuple[Tensor, SamplingRows]:
    """A row for each temperature; logits around an offset that float32 holds only coarsely if it is large."""
    generator = torch.Generator().manual_seed(seed)
    logits_TV = torch.randn(len(TEMPERATURES), vocab_size, generator=generator) * spread + offset
    return logits_TV, sampled_rows(list(TEMPERATURES), seed)


def near_ties(vocab_size: int, temperature: float, seed: int) -> tuple[Tensor, SamplingRows]:
    """Logits that undo the noise: all scores of a row are equal but for rounding and one step of float32 up or down."""
    rows = sampled_rows([temperature] * 8, seed)
    keys_T = torch.full((8,), signed_key(seed))
    level_TV = (4.0 - gumbel_rows(keys_T, rows.positions_T, vocab_size)) * temperature
    logits_TV = level_TV.float().numpy()
    steps_TV = np.random.default_rng(seed).integers(-1, 2, logits_TV.shape)
    stepped_TV = np.nextafter(logits_TV, np.where(steps_TV > 0, np.inf, -np.inf).astype(np.float32))
    return torch.from_numpy(np.where(steps_TV == 0, logits_TV, stepped_TV)), rows


def on_device(rows: SamplingRows, device: str) -> SamplingRows:
    return SamplingRows(
        rows.temperature_T.to(device),
        rows.top_k_T.to(device),
        rows.top_p_T.to(device),
        rows.keys_T.to(device),
        rows.positions_T.to(device),
        rows.may_sample,
        rows.may_truncate,
    )
