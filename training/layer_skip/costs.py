"""What steps of a target cost, with and without its sublayers, measured on the machine that will serve it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch

from engine.batch import WorkItem
from engine.executor import Executor
from engine.pages import PageId, num_pages_for
from engine.skipping import NOTHING, SkipSet
from engine.tree import TokenTree

CONTEXT = 128
_REPEATS = 40
_WARMUP = 5


@dataclass(frozen=True, slots=True)
class StepCosts:
    """Seconds of a step of one sequence."""

    num_layers: int
    base: float
    """Of one row without any sublayer."""
    attention: float
    """More for each layer's attention."""
    mlp: float
    """More for each layer's MLP."""
    row: float
    """More for each further row of a whole step."""

    def draft_s(self, skip: SkipSet) -> float:
        """One drafted token. Sublayers of a kind are taken to cost the same."""
        num_attentions, num_mlps = self.num_layers - len(skip.attention), self.num_layers - len(skip.mlp)
        return self.base + num_attentions * self.attention + num_mlps * self.mlp

    def verify_s(self, num_rows: int) -> float:
        """A whole step of so many rows."""
        return self.draft_s(NOTHING) + (num_rows - 1) * self.row


def measure_costs(executor: Executor, num_rows: int) -> StepCosts:
    """Medians of interleaved steps; a whole step is measured with one row and with `num_rows`.

    The pool must be unused: its first pages are written.
    """
    num_layers = len(executor.target.kv_layers)
    attention, mlps = range(num_layers), _skippable_mlps(executor)
    context = max(min(CONTEXT, executor.target.max_context - num_rows), 1)
    times = _step_times(
        executor,
        context,
        [
            (1, NOTHING),
            (1, SkipSet.of(attention)),
            (1, SkipSet.of((), mlps)),
            (1, SkipSet.of(attention, mlps)),
            (num_rows, NOTHING),
        ],
    )
    whole_s, no_attention_s, no_mlp_s, none_s, rows_s = times
    attention_s = max(whole_s - no_attention_s, no_mlp_s - none_s, 0.0) / num_layers
    mlp_s = max(whole_s - none_s - num_layers * attention_s, 0.0) / num_layers
    base_s = whole_s - num_layers * (attention_s + mlp_s)
    row_s = max(rows_s - whole_s, 0.0) / max(num_rows - 1, 1)
    return StepCosts(num_layers, base_s, attention_s, mlp_s, row_s)


def _skippable_mlps(executor: Executor) -> list[int]:
    sublayers = executor.target.sublayers
    layers = range(len(executor.target.kv_layers))
    return [layer for layer in layers if sublayers.problem(SkipSet.of((), [layer])) is None]


def _step_times(executor: Executor, context: int, steps: Sequence[tuple[int, SkipSet]]) -> list[float]:
    """Median seconds of each kind of step, its choice of tokens included."""
    page_size = executor.cache.page_size
    pages = [PageId(page + 1) for page in range(num_pages_for(context + max(n for n, _ in steps), page_size))]
    times: list[list[float]] = [[] for _ in steps]
    for repeat in range(_WARMUP + _REPEATS):
        for (num_rows, skip), of_step in zip(steps, times, strict=True):
            item = WorkItem([0], context, pages, TokenTree.chain([0] * (num_rows - 1)), wants_logits=True)
            started_s = time.perf_counter()
            with torch.inference_mode():
                logits_RV, _ = executor.run([item], skip)
                logits_RV.float().softmax(1).topk(1).indices.tolist()
            if repeat >= _WARMUP:
                of_step.append(time.perf_counter() - started_s)
    return [median(of_step) for of_step in times]
