"""A decode step of fixed shape over fixed buffers: forward pass, verification, walk, verdicts in one tensor.

Every sequence reads one token and its tree. What the step is told goes to the device in one copy of one buffer, what it
answers comes back together, and that is its one wait. Nothing between depends on data but the numbers themselves,
so that a CUDA graph can hold it (`engine.step_graphs`); it runs as well without one, on any device.

Padding rows hold token 0 at position 0, write to the trash page and see only its blank slot.

Shape letters: B sequences, T packed rows, L index list, V vocabulary, F fields of a verdict, K likeliest tokens.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import NamedTuple

import torch
from polydraft_kernels.packing import PackedTrees, SamplingRows
from torch import Tensor

from engine.attention import IndexLists, StepContext
from engine.batch import PackedBatch, WorkItem, write_index_lists, write_rows
from engine.corrections import likeliest_tokens
from engine.kv_cache import KVCache
from engine.model import TargetModel
from engine.pages import trash_slot
from engine.soundness import row_peaks
from engine.verdicts import pack_walk
from engine.verify.verifiers import Verifier, VerifyWork

MIN_WIDTH, MIN_DEPTH = 512, 8
"""Below these, further shapes would save next to nothing."""
MAX_ROWS = 512
MAX_LIST_ENTRIES = 1 << 21
"""Of all rows: 16 MiB, half a millisecond on the way to the device."""
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class StepShape:
    """What a captured step fixes."""

    num_sequences: int
    num_rows: int
    width: int
    """Of index lists."""
    depth: int
    """At least the nodes of the largest tree."""
    may_sample: bool
    may_truncate: bool
    num_likely: int = 0
    """Likeliest tokens that are told of the place where each walk ends."""

    @classmethod
    def holding(
        cls, trees: PackedTrees, rows: SamplingRows, longest: int, min_rows: int, num_likely: int = 0
    ) -> StepShape:
        """The smallest shape for these trees over sequences of up to `longest` positions."""
        num_sequences = _power_of_two(trees.num_sessions)
        # A padding sequence has a padding row as its root, so that it is a tree like any other.
        num_padding = num_sequences - trees.num_sessions
        return cls(
            num_sequences=num_sequences,
            num_rows=_few_sizes(max(trees.num_rows + num_padding, min_rows)),
            width=_power_of_two(max(longest, MIN_WIDTH)),
            depth=_power_of_two(max(trees.max_draft_len, MIN_DEPTH)),
            may_sample=rows.may_sample,
            may_truncate=rows.may_truncate,
            num_likely=num_likely,
        )

    @property
    def is_small(self) -> bool:
        """Whether its buffers are worth having."""
        return self.num_rows <= MAX_ROWS and self.num_rows * self.width <= MAX_LIST_ENTRIES


@dataclass(frozen=True, slots=True)
class StepInputs:
    """What a step is told, as views of one tensor; all of eight bytes a number."""

    memory: Tensor
    ids_T: Tensor
    positions_T: Tensor
    """Also what the row reads (as many positions and one more) and chooses (the token after it)."""
    write_slots_T: Tensor
    parents_T: Tensor
    keys_T: Tensor
    top_ks_T: Tensor
    top_ps_T: Tensor
    """float64."""
    temperatures_T: Tensor
    """float64."""
    slots_TL: Tensor
    """Entries beyond what a row reads are of earlier steps."""
    row_offsets_B1: Tensor

    @classmethod
    def allocate(cls, shape: StepShape, device: torch.device, *, pinned: bool = False) -> StepInputs:
        """Zeros: padding only, but for the trees."""
        num_rows = shape.num_rows
        sizes = [
            *[num_rows] * 8,
            num_rows * shape.width,
            shape.num_sequences + 1,
        ]
        memory = torch.zeros(sum(sizes), dtype=torch.int64, device=device, pin_memory=pinned)
        ids, positions, write_slots, parents, keys, top_ks, top_ps, temperatures, slots, offsets = torch.split(
            memory, sizes
        )
        return cls(
            memory=memory,
            ids_T=ids,
            positions_T=positions,
            write_slots_T=write_slots,
            parents_T=parents,
            keys_T=keys,
            top_ks_T=top_ks,
            top_ps_T=top_ps.view(torch.float64),
            temperatures_T=temperatures.view(torch.float64),
            slots_TL=slots.view(num_rows, -1),
            row_offsets_B1=offsets,
        )

    def fill(self, items: SequenceOf[WorkItem], page_size: int, trees: PackedTrees, rules: SamplingRows) -> None:
        """Write down a step; on the host."""
        count = trees.num_rows
        rows_of_padding = (self.ids_T, self.positions_T, self.keys_T, self.top_ks_T)
        for field_T in (*rows_of_padding, self.temperatures_T, self.slots_TL[:, 0]):
            field_T[count:] = 0
        self.write_slots_T[count:] = trash_slot(page_size)
        self.parents_T[count:] = -1
        self.top_ps_T[count:] = 1.0
        sequences = write_rows(
            items, page_size, self.ids_T.numpy(), self.positions_T.numpy(), self.write_slots_T.numpy()
        )
        write_index_lists(sequences, self.slots_TL.numpy())
        self.parents_T[:count] = trees.parents_T
        self.keys_T[:count] = rules.keys_T
        self.top_ks_T[:count] = rules.top_k_T
        self.top_ps_T[:count] = rules.top_p_T
        self.temperatures_T[:count] = rules.temperature_T
        num_offsets = trees.num_sessions + 1
        self.row_offsets_B1[:num_offsets] = trees.row_offsets_B1
        num_padding = self.row_offsets_B1.shape[0] - num_offsets
        self.row_offsets_B1[num_offsets:] = torch.arange(count + 1, count + 1 + num_padding)


class StepAnswer(NamedTuple):
    """What a step answers, padding at the end."""

    verdicts_BF: list[list[int]]
    peaks_T: list[float]
    """Of the rows' logits."""
    likely_BK: list[list[float]]
    """What the target thought where each walk ended."""


class StaticStep:
    """One shape's buffers and program."""

    def __init__(
        self, shape: StepShape, target: TargetModel, cache: KVCache, verifier: Verifier, *, captured: bool
    ) -> None:
        self._shape, self._target, self._cache, self._verifier = shape, target, cache, verifier
        self.told = StepInputs.allocate(shape, CPU, pinned=captured)
        self._inputs = StepInputs.allocate(shape, target.device)
        self._every_row_T = torch.arange(shape.num_rows, device=target.device)
        fields = (shape.num_sequences, 2 + shape.depth)
        self._verdicts_BF = torch.zeros(fields, dtype=torch.int64, device=target.device)
        self._answer_BF = torch.zeros(fields, dtype=torch.int64, pin_memory=captured)
        self._peaks_T = torch.zeros(shape.num_rows, device=target.device)
        self._told_peaks_T = torch.zeros(shape.num_rows, pin_memory=captured)
        likely = (shape.num_sequences, 2 * shape.num_likely)
        self._likely_BK = torch.zeros(likely, dtype=torch.float64, device=target.device)
        self._told_likely_BK = torch.zeros(likely, dtype=torch.float64, pin_memory=captured)

    def send(self) -> None:
        """What the step is told, to the device."""
        self._inputs.memory.copy_(self.told.memory, non_blocking=True)

    @torch.inference_mode()
    def compute(self) -> None:
        """Forward pass, verification and walk; waits for nothing, and no shape depends on data."""
        inputs, shape = self._inputs, self._shape
        lengths_T = inputs.positions_T + 1
        context = StepContext(self._cache, inputs.write_slots_T, IndexLists(inputs.slots_TL, lengths_T))
        logits_TV = self._target.forward(
            PackedBatch(inputs.ids_T, inputs.positions_T, context, self._every_row_T, shape.num_rows, shape.num_rows)
        )
        trees = PackedTrees(
            inputs.ids_T,
            inputs.parents_T,
            inputs.row_offsets_B1,
            max_draft_len=shape.depth,
            max_children=shape.num_rows,
        )
        rules = SamplingRows(
            inputs.temperatures_T,
            inputs.top_ks_T,
            inputs.top_ps_T,
            inputs.keys_T,
            positions_T=lengths_T,
            may_sample=shape.may_sample,
            may_truncate=shape.may_truncate,
        )
        walk = self._verifier.verify(VerifyWork(logits_TV, trees, rules))
        self._verdicts_BF.copy_(pack_walk(walk))
        self._peaks_T.copy_(row_peaks(logits_TV))
        if shape.num_likely:
            ends_B = walk.path_BD.gather(1, (walk.num_accepted_B - 1).clamp_min(0)[:, None])[:, 0].clamp_min(0)
            rows_B = inputs.row_offsets_B1[:-1] + ends_B
            self._likely_BK.copy_(likeliest_tokens(logits_TV, rows_B, shape.num_likely))

    def receive(self) -> StepAnswer:
        """What the step answers, on the host: the one wait of a round."""
        self._answer_BF.copy_(self._verdicts_BF, non_blocking=True)
        self._told_peaks_T.copy_(self._peaks_T, non_blocking=True)
        if self._shape.num_likely:
            self._told_likely_BK.copy_(self._likely_BK, non_blocking=True)
        if self._verdicts_BF.is_cuda:
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch has no annotations here
            copied.record()
            copied.synchronize()
        return StepAnswer(self._answer_BF.tolist(), self._told_peaks_T.tolist(), self._told_likely_BK.tolist())


def _power_of_two(number: int) -> int:
    """The next power of two."""
    return 1 << (number - 1).bit_length()


def _few_sizes(number: int) -> int:
    """The next power of two, or three quarters of it from 24 on: rows beyond a few hundred cost arithmetic."""
    upper = _power_of_two(number)
    return upper * 3 // 4 if upper >= 32 and number <= upper * 3 // 4 else upper
