"""What the verification kernels take and give: trees of many sessions packed into rows.

B sessions, T rows of all sessions, D the longest possible path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polydraft_kernels.noise import signed_key

MIN_TEMPERATURE = 1e-6
"""Lower temperatures are raised to this: logits stay finite, and the text is already the greedy one but for ties."""


@dataclass(frozen=True, slots=True)
class PackedTrees:
    """Session b owns rows `row_offsets_B1[b]` to `row_offsets_B1[b + 1]`, the first of them its root.

    The root holds the last committed token, the rows after it the draft, parents first. A session without a draft has
    one row. Siblings should have distinct tokens; of equal ones only the first is followed.
    """

    tokens_T: Tensor
    """int64: the token read at the row."""
    parents_T: Tensor
    """int64: row of the parent within the session, -1 at the root."""
    row_offsets_B1: Tensor
    """int64."""
    max_draft_len: int
    """At least the longest draft; kept on the host so that no kernel has to ask the device."""
    max_children: int
    """At least those of any row; likewise."""

    @classmethod
    def pack(
        cls,
        root_tokens: Sequence[int],
        draft_tokens: Sequence[Sequence[int]],
        draft_parents: Sequence[Sequence[int]],
        device: torch.device | str = "cpu",
    ) -> PackedTrees:
        """From one root and one draft a session; parents as in a tree without its root: -1 follows the root."""
        tokens: list[int] = []
        parents: list[int] = []
        offsets = [0]
        for root, nodes, above in zip(root_tokens, draft_tokens, draft_parents, strict=True):
            tokens += [root, *nodes]
            parents += [-1, *(parent + 1 for parent in above)]
            offsets.append(len(tokens))
        return cls(
            tokens_T=torch.tensor(tokens, dtype=torch.int64, device=device),
            parents_T=torch.tensor(parents, dtype=torch.int64, device=device),
            row_offsets_B1=torch.tensor(offsets, dtype=torch.int64, device=device),
            max_draft_len=max((len(nodes) for nodes in draft_tokens), default=0),
            max_children=max((count for above in draft_parents for count in Counter(above).values()), default=0),
        )

    @property
    def are_chains(self) -> bool:
        """Whether no node has a sibling."""
        return self.max_children <= 1

    @property
    def num_rows(self) -> int:
        return self.tokens_T.shape[0]

    @property
    def num_sessions(self) -> int:
        return self.row_offsets_B1.shape[0] - 1

    def session_of_rows(self) -> Tensor:
        """The session that owns each row, int64 [T]."""
        offsets_B1 = self.row_offsets_B1
        sessions_B = torch.arange(self.num_sessions, device=offsets_B1.device)
        return sessions_B.repeat_interleave(offsets_B1.diff(), output_size=self.num_rows)


@dataclass(frozen=True, slots=True)
class SamplingRows:
    """The sampling rule of every row; rows of one batch may differ in everything."""

    temperature_T: Tensor
    """float64; 0 is plain argmax."""
    top_k_T: Tensor
    """int64; 0 keeps all."""
    top_p_T: Tensor
    """float64; 1 keeps all."""
    keys_T: Tensor
    """int64, the bits of the seed."""
    positions_T: Tensor
    """int64: index in the whole sequence of the token being chosen, one more than the row's own."""
    may_sample: bool = True
    """False promises that every row is greedy."""
    may_truncate: bool = True
    """False promises that no row uses top-k or top-p."""

    @classmethod
    def build(
        cls,
        temperatures: Sequence[float],
        top_ks: Sequence[int],
        top_ps: Sequence[float],
        seeds: Sequence[int],
        positions: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> SamplingRows:
        """One entry a row; seeds are unsigned 64-bit."""
        keys = [signed_key(seed) for seed in seeds]
        sampled = [temperature > 0 for temperature in temperatures]
        truncated = [top_k > 0 or top_p < 1 for top_k, top_p in zip(top_ks, top_ps, strict=True)]
        return cls(
            temperature_T=torch.tensor(temperatures, dtype=torch.float64, device=device),
            top_k_T=torch.tensor(top_ks, dtype=torch.int64, device=device),
            top_p_T=torch.tensor(top_ps, dtype=torch.float64, device=device),
            keys_T=torch.tensor(keys, dtype=torch.int64, device=device),
            positions_T=torch.tensor(positions, dtype=torch.int64, device=device),
            may_sample=any(sampled),
            may_truncate=any(both for both in map(all, zip(sampled, truncated, strict=True))),
        )

    def select(self, rows_S: Tensor | slice) -> SamplingRows:
        """The rules of some rows."""
        return SamplingRows(
            self.temperature_T[rows_S],
            self.top_k_T[rows_S],
            self.top_p_T[rows_S],
            self.keys_T[rows_S],
            self.positions_T[rows_S],
            self.may_sample,
            self.may_truncate,
        )


@dataclass(frozen=True, slots=True)
class Walk:
    """What was accepted: the tokens of `path_BD`, then `free_token_B`."""

    num_accepted_B: Tensor
    """int64."""
    free_token_B: Tensor
    """int64: the target's own choice after the last accepted token."""
    path_BD: Tensor
    """int64: row within the session of each accepted node in order, padded with -1; D is `max_draft_len`."""
