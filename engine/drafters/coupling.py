"""How a drafter chooses tokens. q is its law behind the same temperature, top-k and top-p as the target's p.

*Coupled*, so that the target is likely to choose the same (Daliri, Musco, Suresh 2024): at temperature 0 both take
their best score. Else the target takes argmax(log p + G) with Gumbel noise G keyed by (seed, position, token id), and
the drafter argmax(log q + G) with the same G. The text does not depend on it: the target verifies by its own choice.

*Drawn*, for verifiers that need the law of what they judge: G is the drafter's own, keyed by round too. The largest of
log q + G are a draw from q without replacement (Kool et al. 1903.06059).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from polydraft_kernels.noise import Stream, UInt64s, bits_of_hashed, gumbel_of_bits, row_state
from torch import Tensor

from engine.sampling import SamplingParams

# Shape letters: N nodes, V tokens the drafter may propose, K tokens kept or wanted

MAX_SUPPORT = 256
"""Most tokens kept under top-k or top-p: sorting more costs as much as drafting a token and hardly hits more often."""


class NoiseRows:
    """The noise rows of one session over the drafter's vocabulary, one a position, drawn once."""

    def __init__(
        self, sampling: SamplingParams, hashed_ids_V: UInt64s, stream: Stream = Stream.SHARED, round_index: int = 0
    ) -> None:
        """`hashed_ids_V`: `hash_ids` of the target's id of each row; the default stream is the target's own."""
        self.sampling = sampling
        self._hashed_ids_V = hashed_ids_V
        self._stream = stream
        self._round = round_index
        self._rows: dict[int, Tensor] = {}

    def at(self, positions: Sequence[int]) -> Tensor:
        """Gumbel noise for the tokens at those positions, fp32 [N, V]."""
        for position in set(positions) - self._rows.keys():
            self._draw(position)
        return torch.stack([self._rows[position] for position in positions])

    def draw_ahead(self, first: int, count: int) -> bool:
        """Draw one row that is missing among `count` positions from `first` on; False if none is or none is needed."""
        missing = None if self.sampling.is_greedy else next(iter(self._missing(first, count)), None)
        if missing is not None:
            self._draw(missing)
        return missing is not None

    def _missing(self, first: int, count: int) -> Iterator[int]:
        return (position for position in range(first, first + count) if position not in self._rows)

    def _draw(self, position: int) -> None:
        state = row_state(self.sampling.seed, self._stream, position, self._round)
        gumbel_V = gumbel_of_bits(bits_of_hashed(state, self._hashed_ids_V))
        self._rows[position] = torch.from_numpy(gumbel_V).float()

    def forget(self, position: int) -> None:
        """Rows before this position are not asked for again."""
        self._rows = {other: row_V for other, row_V in self._rows.items() if other >= position}


@dataclass(frozen=True, slots=True)
class Choices:
    """What may follow each node, the first chosen first. N nodes."""

    rows: list[list[int]]
    """[N][K]"""
    probs: list[list[float]]
    """[N][K]: of coupled choices how likely the target is to choose them; of drawn ones q. 0 where nothing is left."""
    laws_NV: Tensor | None = None
    """q, fp32, where the choices were drawn."""


def coupled_choices(logits_NV: Tensor, noise: NoiseRows, positions: Sequence[int], count: int) -> Choices:
    """The tokens that the target is likeliest to choose at each of `positions`.

    Above temperature 0 probabilities are the softmax of the perturbed scores: near ties are as likely as each other.
    """
    scores_NV = _scores(logits_NV, noise.sampling)
    if not noise.sampling.is_greedy:
        scores_NV = scores_NV + noise.at(positions).to(logits_NV.device)
    probs_NK, rows_NK = torch.softmax(scores_NV, dim=1).topk(min(count, scores_NV.shape[1]))
    return Choices(rows_NK.tolist(), probs_NK.tolist())


def drawn_choices(logits_NV: Tensor, noise: NoiseRows, positions: Sequence[int], count: int) -> Choices:
    """Tokens drawn from q without replacement, in the order drawn; at temperature 0 the likeliest."""
    scores_NV = _scores(logits_NV.float(), noise.sampling)
    laws_NV = torch.softmax(scores_NV, dim=1)
    if not noise.sampling.is_greedy:
        scores_NV = scores_NV + noise.at(positions).to(logits_NV.device)
    rows_NK = scores_NV.topk(min(count, scores_NV.shape[1])).indices
    return Choices(rows_NK.tolist(), laws_NV.gather(1, rows_NK).tolist(), laws_NV)


def _scores(logits_NV: Tensor, sampling: SamplingParams) -> Tensor:
    """log q but for a constant of each row; at temperature 0 the logits."""
    if sampling.is_greedy:
        return logits_NV
    scores_NV = logits_NV / sampling.temperature
    return _truncated(scores_NV, sampling) if sampling.top_k or sampling.top_p < 1.0 else scores_NV


def _truncated(scores_NV: Tensor, sampling: SamplingParams) -> Tensor:
    """-inf for the tokens that top-k, then top-p leave out."""
    num_kept = min(sampling.top_k or MAX_SUPPORT, MAX_SUPPORT, scores_NV.shape[1])
    scores_NK, rows_NK = scores_NV.topk(num_kept)
    if sampling.top_p < 1.0:
        probs_NK = scores_NK.softmax(1)
        before_NK = probs_NK.cumsum(1) - probs_NK
        scores_NK = scores_NK.masked_fill(before_NK >= sampling.top_p, -torch.inf)
    return torch.full_like(scores_NV, -torch.inf).scatter_(1, rows_NK, scores_NK)
