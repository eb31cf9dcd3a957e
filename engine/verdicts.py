"""From logits to what each sequence commits: lay the trees out for the verifier and read its walk.

Shape letters: R logit rows, V vocabulary, B sequences, F fields of a verdict: the number of accepted nodes, the free
token, then the accepted rows, padded.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from math import isfinite

import torch
from polydraft_kernels.packing import PackedTrees, SamplingRows, Walk
from torch import Tensor

from engine.corrections import Correction, LikelyTokens, is_overruled, likeliest_tokens, read_likely
from engine.logprobs import TokenLogprobs, token_logprobs
from engine.sampling import SamplingParams
from engine.scheduler import Work
from engine.soundness import row_peaks
from engine.verify.verifiers import Verifier, VerifyWork, one_hot_laws


@dataclass(frozen=True, slots=True)
class Choice:
    """The accepted nodes of a tree, root first, and the tokens they commit with the target's own at the end."""

    path: tuple[int, ...]
    token_ids: tuple[int, ...]
    likely: LikelyTokens | None = None
    """What the target thought of the last token's place, where it overruled a draft and the sequence asks for it."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    """One a token, if the sequence asks for them."""
    is_sound: bool = True
    """Whether the model gave numbers; otherwise there are no tokens."""

    def correction(self, base_length: int, num_accepted: int) -> Correction | None:
        """What stands at the end of the walk from `base_length`, unless the answer ends before it."""
        if self.likely is None or num_accepted < len(self.path):
            return None
        return Correction(base_length + num_accepted, self.likely)


UNSOUND = Choice((), (), is_sound=False)


def choose(verifier: Verifier, logits_RV: Tensor, work: SequenceOf[Work]) -> list[Choice]:
    """Verify all trees in one call. Copies the result to the host: where a round waits for the device."""
    if not work:
        return []
    device = logits_RV.device
    rounds_B = torch.tensor([item.sequence.round for item in work], device=device)
    laws_TV = None if verifier.judges_any_draft else pack_laws(work, logits_RV.shape[1], device)
    walk = verifier.verify(
        VerifyWork(logits_RV, pack_trees(work, device), pack_sampling(work, device), laws_TV, rounds_B)
    )
    choices = read_choices(work, pack_walk(walk).tolist(), row_peaks(logits_RV).tolist())
    return _with_logprobs(logits_RV, work, _with_corrections(logits_RV, work, choices))


def most_likely_wanted(work: SequenceOf[Work]) -> int:
    """The most tokens that a correction of any of these sequences should name; 0: none wants corrections."""
    return max((item.sequence.request.correction_top_k for item in work), default=0)


def _with_corrections(logits_RV: Tensor, work: SequenceOf[Work], choices: list[Choice]) -> list[Choice]:
    """Add what the target thought, for those that ask and were overruled."""
    count = most_likely_wanted(work)
    if not count:
        return choices
    rows: dict[int, int] = {}
    offset = 0
    for index, (item, choice) in enumerate(zip(work, choices, strict=True)):
        if wants_correction(item, choice):
            rows[index] = offset + (choice.path[-1] + 1 if choice.path else 0)
        offset += 1 + len(item.tree)
    if not rows:
        return choices
    rows_N = torch.tensor([*rows.values()], device=logits_RV.device)
    found = dict(zip(rows, likeliest_tokens(logits_RV, rows_N, count).tolist(), strict=True))
    return [
        with_likely(item, choice, found[index]) if index in found else choice
        for index, (item, choice) in enumerate(zip(work, choices, strict=True))
    ]


def wants_correction(item: Work, choice: Choice) -> bool:
    wants = item.sequence.request.correction_top_k > 0
    return wants and choice.is_sound and is_overruled(item.tree, choice.path)


def with_likely(item: Work, choice: Choice, row: list[float]) -> Choice:
    """The choice with as many likely tokens as its sequence asks for; `row` is of `likeliest_tokens`."""
    return replace(choice, likely=read_likely(row).first(item.sequence.request.correction_top_k))


def wants_logprobs(work: SequenceOf[Work]) -> bool:
    """Whether any of these sequences does."""
    return any(item.sequence.request.top_logprobs is not None for item in work)


def _with_logprobs(logits_RV: Tensor, work: SequenceOf[Work], choices: list[Choice]) -> list[Choice]:
    """Add log-probabilities, for those that ask."""
    if not wants_logprobs(work):
        return choices
    told = []
    root = 0
    for item, choice in zip(work, choices, strict=True):
        top = item.sequence.request.top_logprobs
        if top is not None and choice.is_sound:
            rows = [root, *(root + 1 + node for node in choice.path)]  # each row chooses the token after its own
            choice = replace(choice, logprobs=token_logprobs(logits_RV, rows, choice.token_ids, top))
        told.append(choice)
        root += 1 + len(item.tree)
    return told


def pack_walk(walk: Walk) -> Tensor:
    """A walk as one tensor, int64 [B, F], so that one copy brings it to the host."""
    return torch.cat((walk.num_accepted_B[:, None], walk.free_token_B[:, None], walk.path_BD), dim=1)


def read_choices(
    work: SequenceOf[Work], verdicts_BF: SequenceOf[SequenceOf[int]], peaks_R: SequenceOf[float]
) -> list[Choice]:
    """The choice for each sequence of `work`, from `pack_walk` and `row_peaks` on the host; what is beyond is padding.

    A sequence is unsound if its root or an accepted node is; what was rejected does not matter.
    """
    choices = []
    first = 0
    for item, (num_accepted, free_token, *rows) in zip(work, verdicts_BF, strict=False):
        is_sound = all(isfinite(peaks_R[first + row]) for row in (0, *rows[:num_accepted]))
        first += 1 + len(item.tree)
        if not is_sound:
            choices.append(UNSOUND)
            continue
        path = tuple(row - 1 for row in rows[:num_accepted])  # row 0 of a sequence is its root
        choices.append(Choice(path, (*(item.tree.token_ids[node] for node in path), free_token)))
    return choices


def pack_trees(work: SequenceOf[Work], device: torch.device) -> PackedTrees:
    """The trees of all sequences, each behind its last committed token."""
    return PackedTrees.pack(
        root_tokens=[item.sequence.token_ids[-1] for item in work],
        draft_tokens=[item.tree.token_ids for item in work],
        draft_parents=[item.tree.parents for item in work],
        device=device,
    )


def pack_laws(work: SequenceOf[Work], vocab_size: int, device: torch.device) -> Tensor:
    """The law that the children of each row were drawn from, float32 [R, V]; a chain without one is as it is."""
    laws = []
    for item in work:
        tree = item.tree
        if tree.laws is None:
            assert tree.is_chain, "a tree with branches was let in without its law"
            laws.append(one_hot_laws(tree.token_ids, vocab_size).to(device))
        else:
            laws.append(tree.laws.to(device))
    return torch.cat(laws)


def pack_sampling(work: SequenceOf[Work], device: torch.device) -> SamplingRows:
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
