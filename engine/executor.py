"""What the ranks of a target do alike: run the rows of a step, judge what they left, move KV. One rank is the rule.

Shape letters: R logit rows, V vocabulary, T slots.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.batch import WorkItem, slots_of
from engine.checks import prove
from engine.kv_cache import KVCache
from engine.model import TargetModel
from engine.numerics import Numerics
from engine.shards.messages import Message, Move, Step, Stop, decode, encode
from engine.skipping import NOTHING, SkipSet
from engine.soundness import sound_slots

Moves = Sequence[tuple[int, int]]


class Executor:
    """The target's weights and KV in this process, as far as they are here.

    Rank 0 of a sharded target tells the others what it is about to do; they `follow`.
    """

    def __init__(self, target: TargetModel, numerics: Numerics, num_pages: int, page_size: int) -> None:
        self.target = target
        self.min_rows = prove(target, numerics)
        """Rows that a step is padded to."""
        self.cache = KVCache(target.kv_layers, num_pages, page_size, target.dtype, target.device)
        if target.group is not None:
            target.group.wait_for_all()

    def run(self, items: Sequence[WorkItem], skip: SkipSet = NOTHING) -> tuple[Tensor, list[bool]]:
        """One packed pass: logits [R, V] of the items that want them, and of the others whether they left numbers."""
        self._tell(Step(tuple(items), skip))
        logits_RV = self.target.forward(self.target.pack(items, self.cache, self.min_rows), skip)
        return logits_RV, self._judge([item for item in items if not item.wants_logits])

    def move(self, moves: Moves) -> None:
        """Copy slots, from the first of each pair to the second, in all layers."""
        self._tell(Move(tuple(moves)))
        # From pinned memory the copy to a CUDA device does not wait for the steps before it.
        moves_N2 = torch.tensor(moves, pin_memory=self.target.device.type == "cuda")
        from_slots_T, to_slots_T = moves_N2.to(self.target.device, non_blocking=True).T.contiguous()
        self.cache.move(from_slots_T, to_slots_T)

    def follow(self) -> None:
        """Do what rank 0 does until it stops. RuntimeError if a rank is lost."""
        group = self.target.group
        assert group is not None and not group.leads, "only other ranks follow"
        while True:
            message = decode(group.hear())
            match message:
                case Step(items, skip):
                    self.run(items, skip)
                case Move(moves):
                    self.move(moves)
                case Stop():
                    group.leave()
                    return

    def stop(self) -> None:
        """Let the other ranks end."""
        self._tell(Stop())
        if self.target.group is not None:
            self.target.group.leave()

    def _tell(self, message: Message) -> None:
        group = self.target.group
        if group is not None and group.leads:
            group.tell(encode(message))

    def _judge(self, chunks: Sequence[WorkItem]) -> list[bool]:
        """Whether what each prefill chunk left for others to read are numbers, at every rank."""
        if not chunks:
            return []
        written = [
            slots_of(item.pages, self.cache.page_size, item.num_cached + item.num_rows)[-item.num_rows :]
            for item in chunks
        ]
        found = sound_slots(self.cache, written)
        return found if self.target.group is None else self.target.group.all_true(found)
