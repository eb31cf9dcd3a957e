"""What drafts without some sublayers would have hit of answers that the target wrote, without writing them again.

From each position of an answer the skipping model reads on along the target's own tokens, behind the whole model's keys
and values of what came before: one pass for all positions. For greedy drafts that is exact up to the first miss, as
until then the drafter would have drafted these very tokens; what it would have drafted behind a miss, and where it
would have stopped there, is taken from the target's tokens instead. Above temperature 0 it is an approximation.

Shape letters: R rows of a batch, V vocabulary, S starts, K drafted tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.batch import PackedBatch, WorkItem, slots_of
from engine.drafters.early_exit import AdaptiveExit
from engine.kv_cache import KVCache
from engine.model import TargetModel
from engine.pages import PageId, num_pages_for
from engine.skipping import NOTHING, SkipSet
from engine.tree import TokenTree
from training.layer_skip.costs import StepCosts

_PAGE_SIZE = 16
_BATCH_ROWS = 256


@dataclass(frozen=True, slots=True)
class Answer:
    """A prompt and what the target greedily answered, EOS included."""

    token_ids: tuple[int, ...]
    prompt_length: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What drafting with a set would bring, one sequence at a time."""

    seconds_per_token: float
    tokens_per_round: float
    drafted_per_round: float
    acceptance: float
    """Accepted tokens over drafted ones."""


class Rehearsal:
    """Some answers in a KV pool of their own, ready to be drafted with any set."""

    def __init__(self, target: TargetModel, answers: Sequence[Answer], max_nodes: int, min_rows: int) -> None:
        """`max_nodes`: of a draft; `min_rows`: what steps are padded to."""
        self._target, self._max_nodes = target, max_nodes
        self._answers = [answer for answer in answers if len(answer.token_ids) - answer.prompt_length > 1]
        if not self._answers:
            raise ValueError("the target's answers are all empty or one token long; give other prompts")
        # Of an answer its pages, and of each start those from the one on where its draft begins.
        per_start = num_pages_for(_PAGE_SIZE + max_nodes, _PAGE_SIZE)
        longest = sum(num_pages_for(len(answer.token_ids), _PAGE_SIZE) for answer in self._answers)
        num_pages = 1 + longest + per_start * sum(len(_starts(answer)) for answer in self._answers)
        self._cache = KVCache(target.kv_layers, num_pages, _PAGE_SIZE, target.dtype, target.device)
        self._next_page = 1
        self._items = [item for answer in self._answers for item in self._read(answer, per_start, min_rows)]
        self._batches = list(self._packed(min_rows))

    def _take(self, count: int) -> list[PageId]:
        first, self._next_page = self._next_page, self._next_page + count
        return [PageId(page) for page in range(first, self._next_page)]

    @torch.inference_mode()
    def _read(self, answer: Answer, per_start: int, min_rows: int) -> list[WorkItem]:
        """Write the whole model's KV of an answer; an item for each start, with pages of its own behind."""
        tokens = answer.token_ids
        pages = self._take(num_pages_for(len(tokens), _PAGE_SIZE))
        for first in range(0, len(tokens), _BATCH_ROWS):
            item = WorkItem(tokens[first : first + _BATCH_ROWS], first, pages, TokenTree(), wants_logits=True)
            self._target.forward(self._target.pack([item], self._cache, min_rows), NOTHING)
        items = []
        for start in _starts(answer):
            own, num_whole = self._take(per_start), start // _PAGE_SIZE
            item_pages = [*pages[:num_whole], *own]
            begun = slice(num_whole * _PAGE_SIZE, start)
            if begun.start < begun.stop:
                from_slots, to_slots = (
                    torch.from_numpy(slots_of(held, _PAGE_SIZE, start)[begun]).to(self._target.device)
                    for held in (pages, item_pages)
                )
                self._cache.move(from_slots, to_slots)
            chain = TokenTree.chain(tokens[start + 1 : start + self._num_drafted(answer, start)])
            items.append(WorkItem(tokens[start : start + 1], start, item_pages, chain, wants_logits=True))
        return items

    def _num_drafted(self, answer: Answer, start: int) -> int:
        return min(self._max_nodes, len(answer.token_ids) - 1 - start)

    def _packed(self, min_rows: int) -> list[PackedBatch]:
        groups: list[list[WorkItem]] = [[]]
        for item in self._items:
            if sum(other.num_rows for other in groups[-1]) + item.num_rows > _BATCH_ROWS:
                groups.append([])
            groups[-1].append(item)
        return [self._target.pack(group, self._cache, min_rows) for group in groups]

    @torch.inference_mode()
    def draft(self, skip: SkipSet) -> tuple[Tensor, Tensor]:
        """Of all starts and drafted tokens, one after the other: the likeliest token and its probability."""
        found = []
        for batch in self._batches:
            best_R, tokens_R = self._target.forward(batch, skip).float().softmax(1).max(1)
            found.append((tokens_R.cpu(), best_R.cpu()))
        return torch.cat([tokens_R for tokens_R, _ in found]), torch.cat([best_R for _, best_R in found])

    def outcome(self, skip: SkipSet, costs: StepCosts, exit_confidence: float) -> Outcome:
        """Go through all answers round by round, as serving would; the exit's threshold is carried along."""
        tokens, confidences = (found.tolist() for found in self.draft(skip))
        exit_rule = AdaptiveExit(exit_confidence)
        num_tokens = num_drafted = num_accepted = num_rounds = 0
        seconds, first_row = 0.0, 0
        for answer in self._answers:
            rows = {}
            for start in _starts(answer):
                rows[start] = first_row
                first_row += self._num_drafted(answer, start)
            place = answer.prompt_length
            while place in rows:
                limit, row = self._num_drafted(answer, place), rows[place]
                drafted = next((n + 1 for n in range(limit) if exit_rule.stops_at(confidences[row + n])), limit)
                right = answer.token_ids[place + 1 : place + 1 + drafted]
                accepted = next((n for n, token in enumerate(right) if tokens[row + n] != token), drafted)
                exit_rule.observe(accepted, drafted, limit)
                seconds += drafted * costs.draft_s(skip) + costs.verify_s(1 + drafted)
                committed = min(accepted + 1, len(answer.token_ids) - 1 - place)
                place += committed
                num_tokens += committed
                num_drafted += drafted
                num_accepted += accepted
                num_rounds += 1
        return Outcome(
            seconds / num_tokens, num_tokens / num_rounds, num_drafted / num_rounds, num_accepted / num_drafted
        )


def _starts(answer: Answer) -> range:
    """Positions of last committed tokens behind which something is left to draft."""
    return range(answer.prompt_length, len(answer.token_ids) - 1)
