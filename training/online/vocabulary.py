"""Tokens that a trimmed drafter comes to know while it serves.

A drafter of another language reads much of a prompt as the unknown token, and no update of its weights tells it what
stands there. So tokens that the traffic holds get rows of their own. The target knows what they mean: a new row begins
where a linear map from the target's embedding to the drafter's, fitted on the tokens that both know, puts it. Without
the target's weights it begins as the unknown token's, which as input changes nothing until it has learned.

Shape letters: R embedding rows, N new ones, D the drafter's width, E the target's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from training.drafter import EMBEDDING, HEAD, TrimmedVocabulary
from training.online.replay import Transcript

MIN_COUNT = 2
"""A token that came once may never come again."""
RIDGE = 0.1
"""Of the mean variance of the target's embedding: 0.01 and 1 guessed as well."""


def grown(vocabulary: TrimmedVocabulary, transcripts: Sequence[Transcript], max_new: int) -> TrimmedVocabulary:
    """The vocabulary with at most `max_new` tokens more in its two parts together, the most frequent ones.

    Tokens of answers join the head, those of prompts are only read. Tokens in it keep their order.
    """
    read: Counter[int] = Counter()
    written: Counter[int] = Counter()
    for transcript in transcripts:
        read.update(transcript.token_ids[: transcript.prompt_length])
        written.update(transcript.token_ids[transcript.prompt_length :])
    head = vocabulary.token_ids[: vocabulary.num_head_tokens]
    proposed = set(head)
    candidates = [(count, token, True) for token, count in written.items() if token not in proposed]
    candidates += [
        (count, token, False)
        for token, count in read.items()
        if token not in vocabulary.row_of_id and written[token] < MIN_COUNT
    ]
    frequent = sorted((item for item in candidates if item[0] >= MIN_COUNT), key=lambda item: (-item[0], item[1]))
    chosen = frequent[: max(max_new, 0)]
    new_head = [token for _, token, is_written in chosen if is_written]
    inputs = [token for token in vocabulary.token_ids[len(head) :] if token not in new_head]
    new_inputs = [token for _, token, is_written in chosen if not is_written]
    return TrimmedVocabulary((*head, *new_head, *inputs, *new_inputs), len(head) + len(new_head))


def regrown(
    model: LlamaForCausalLM, old: TrimmedVocabulary, new: TrimmedVocabulary, target: TargetEmbedding | None
) -> LlamaForCausalLM:
    """A drafter with the rows of `new`; those that `old` lacks begin as guessed from the target's, or as unknown."""
    rows = torch.tensor([*old.rows(new.token_ids), old.unknown_row])
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    old_RD = state[EMBEDDING]
    new_RD = old_RD[rows]
    if target is not None:
        added = [token for token in new.token_ids if token not in old.row_of_id]
        guessed_ND = guess_rows(old_RD[:-1], target.rows(old.token_ids), target.rows(added))
        new_RD[new.rows(added)] = guessed_ND
    config = LlamaConfig(**{**model.config.to_dict(), "vocab_size": new.num_rows})
    larger = LlamaForCausalLM(config)
    larger.load_state_dict(state | {EMBEDDING: new_RD, HEAD: new_RD})
    return larger


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
