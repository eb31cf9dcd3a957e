"""From logits to what each sequence commits: lay the trees out for the verifier and read its walk.

Shape letters: R logit rows, V vocabulary, B sequences.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch
from polydraft_kernels.packing import PackedTrees, SamplingRows
from torch import Tensor

from engine.sampling import SamplingParams
from engine.scheduler import Work
from engine.verify.verifiers import Verifier, VerifyWork


@dataclass(frozen=True, slots=True)
class Choice:
    """The accepted nodes of a tree, root first, and the tokens they commit with the target's own at the end."""

    path: tuple[int, ...]
    token_ids: tuple[int, ...]


def choose(verifier: Verifier, logits_RV: Tensor, work: SequenceOf[Work]) -> list[Choice]:
    """Verify all trees in one call. Copies the result to the host: the one synchronisation of a round."""
    if not work:
        return []
    device = logits_RV.device
    rounds_B = torch.tensor([item.sequence.round for item in work], device=device)
    walk = verifier.verify(
        VerifyWork(logits_RV, _pack_trees(work, device), _pack_sampling(work, device), rounds_B=rounds_B)
    )
    num_accepted = walk.num_accepted_B.tolist()
    free_tokens = walk.free_token_B.tolist()
    paths = walk.path_BD.tolist()
    choices = []
    for item, accepted, free, rows in zip(work, num_accepted, free_tokens, paths, strict=True):
        path = tuple(row - 1 for row in rows[:accepted])  # row 0 of a sequence is its root
        choices.append(Choice(path, (*(item.tree.token_ids[node] for node in path), free)))
    return choices


def _pack_trees(work: SequenceOf[Work], device: torch.device) -> PackedTrees:
    return PackedTrees.pack(
        root_tokens=[item.sequence.token_ids[-1] for item in work],
        draft_tokens=[item.tree.token_ids for item in work],
        draft_parents=[item.tree.parents for item in work],
        device=device,
    )


def _pack_sampling(work: SequenceOf[Work], device: torch.device) -> SamplingRows:
    """The rule of each row, and the position of the token that the row chooses."""
    rules: list[SamplingParams] = []
    positions: list[int] = []
    for item in work:
        length = len(item.sequence.token_ids)
        depths = item.tree.depths()
        rules += [item.sequence.request.sampling] * (1 + len(depths))
        positions += [length, *(length + depth for depth in depths)]
    return SamplingRows.build(
        temperatures=[rule.temperature for rule in rules],
        top_ks=[rule.top_k for rule in rules],
        top_ps=[rule.top_p for rule in rules],
        seeds=[rule.seed for rule in rules],
        positions=positions,
        device=device,
    )
