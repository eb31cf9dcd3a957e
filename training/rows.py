"""A drafter's weights with the rows of another vocabulary.

Tokens that it did not know get rows. The target knows what they mean: a new row begins where a linear map from the
target's embedding to the drafter's, fitted on the tokens that both know, puts it. Without the target's weights it
begins as the unknown token's, which as input changes nothing until it has learned.

Shape letters: R embedding rows, N new ones, D the drafter's width, E the target's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from training.drafter import EMBEDDING, HEAD, TrimmedVocabulary

RIDGE = 0.1
"""Of the mean variance of the target's embedding: 0.01 and 1 guessed as well."""


def with_rows_of(
    state: Mapping[str, Tensor], old: TrimmedVocabulary, new: TrimmedVocabulary, target: TargetEmbedding | None
) -> dict[str, Tensor]:
    """A drafter's state for `new`; rows that `old` lacks begin as guessed from the target's, or as unknown."""
    old_RD = state[EMBEDDING]
    new_RD = old_RD[torch.tensor([*old.rows(new.token_ids), old.unknown_row])]
    added = [token for token in new.token_ids if token not in old.row_of_id]
    if target is not None and added:
        new_RD[new.rows(added)] = guess_rows(old_RD[:-1], target.rows(old.token_ids), target.rows(added))
    return {name: tensor.detach().clone() for name, tensor in state.items()} | {EMBEDDING: new_RD, HEAD: new_RD}


def guess_rows(known_RD: Tensor, target_known_RE: Tensor, target_new_NE: Tensor) -> Tensor:
    """Rows of new tokens, [N, D]: the linear map from the target's embedding that fits the known ones (ridge)."""
    mean_D, target_mean_E = known_RD.mean(0), target_known_RE.mean(0)
    centred_RE = target_known_RE - target_mean_E
    gram_EE = centred_RE.T @ centred_RE
    ridge_EE = RIDGE * gram_EE.diagonal().mean() * torch.eye(gram_EE.shape[0])
    map_ED: Tensor = torch.linalg.solve(gram_EE + ridge_EE, centred_RE.T @ (known_RD - mean_D))
    return (target_new_NE - target_mean_E) @ map_ED + mean_D


class TargetEmbedding:
    """Rows of the target's input embedding, read from its files as they are asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def find(cls, directory: Path) -> TargetEmbedding | None:
        """Of the target in `directory`; None if its weights are not here, or have no embedding of the usual name."""
        for path in sorted(directory.glob("*.safetensors")):
            with safe_open(path, "pt") as tensors:
                if EMBEDDING in tensors.keys():  # noqa: SIM118  # no mapping
                    return cls(path)
        return None

    def rows(self, token_ids: Sequence[int]) -> Tensor:
        """float32 [N, E], in the order of the ids."""
        with safe_open(self._path, "pt") as tensors:
            embedding = tensors.get_slice(EMBEDDING)
            return torch.stack([embedding[token : token + 1][0] for token in token_ids]).float()
