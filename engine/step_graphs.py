"""Decode steps through static buffers: on CUDA devices one graph a shape, elsewhere the same program uncaptured.

A round of a small target is bound by the launches of its kernels; a graph is one launch. Shapes are rounded up to a few
sizes (`StepShape`), and each is captured when it is first needed. Prefill, very
long lists and steps that tell log-probabilities run eagerly.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence as SequenceOf

import torch

from engine.batch import WorkItem
from engine.kv_cache import KVCache
from engine.model import TargetModel
from engine.scheduler import Work
from engine.static_step import CPU, StaticStep, StepShape
from engine.verdicts import (
    Choice,
    most_likely_wanted,
    pack_sampling,
    pack_trees,
    read_choices,
    wants_correction,
    wants_logprobs,
    with_likely,
)
from engine.verify.verifiers import Verifier

logger = logging.getLogger(__name__)

MAX_SHAPES = 128
"""Each keeps buffers and a graph: a few MiB of memory on either side. Shapes beyond run eagerly."""


class StaticSteps:
    """The shapes seen so far, each captured if `capture`. Not thread-safe."""

    def __init__(
        self, target: TargetModel, cache: KVCache, verifier: Verifier, min_rows: int, *, capture: bool
    ) -> None:
        self._target, self._cache, self._verifier, self._min_rows = target, cache, verifier, min_rows
        self._steps: dict[StepShape, StaticStep] = {}
        self._graphs = StepGraphs() if capture else None

    @property
    def num_graphs(self) -> int:
        """Shapes captured so far."""
        return 0 if self._graphs is None else len(self._graphs)

    def try_choose(self, items: SequenceOf[WorkItem], work: SequenceOf[Work]) -> list[Choice] | None:
        """Run a step and read what the target chose for each sequence; None if it must run eagerly."""
        if not all(item.wants_logits and len(item.token_ids) == 1 for item in items) or wants_logprobs(work):
            return None
        trees, rules = pack_trees(work, CPU), pack_sampling(work, CPU)
        longest = max(item.num_cached + item.num_rows for item in items)
        shape = StepShape.holding(trees, rules, longest, self._min_rows, most_likely_wanted(work))
        step = self._steps.get(shape) or self._try_new_step(shape)
        if step is None:
            return None
        step.told.fill(items, self._cache.page_size, trees, rules)
        step.send()
        if self._graphs is None:
            step.compute()
        else:
            self._graphs.run(shape, step)
        answer = step.receive()
        choices = read_choices(work, answer.verdicts_BF, answer.peaks_T)
        if not shape.num_likely:
            return choices
        return [
            with_likely(item, choice, row) if wants_correction(item, choice) else choice
            for item, choice, row in zip(work, choices, answer.likely_BK, strict=False)  # rows beyond are padding
        ]

    def _try_new_step(self, shape: StepShape) -> StaticStep | None:
        if not shape.is_small or len(self._steps) == MAX_SHAPES:
            return None
        captured = self._graphs is not None
        step = StaticStep(shape, self._target, self._cache, self._verifier, captured=captured)
        self._steps[shape] = step
        return step


class StepGraphs:
    """CUDA graphs of static steps. They share their memory, as only one runs at a time and leaves nothing in it."""

    def __init__(self) -> None:
        self._graphs: dict[StepShape, torch.cuda.CUDAGraph | None] = {}
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no annotations here
        self._pool = torch.cuda.graph_pool_handle()

    def __len__(self) -> int:
        return sum(graph is not None for graph in self._graphs.values())

    def run(self, shape: StepShape, step: StaticStep) -> None:
        """Replay the step, which is captured first if it is new; one that cannot be captured runs as it is."""
        if shape not in self._graphs:
            self._graphs[shape] = self._try_capture(shape, step)
        graph = self._graphs[shape]
        if graph is None:
            step.compute()
        else:
            graph.replay()

    def _try_capture(self, shape: StepShape, step: StaticStep) -> torch.cuda.CUDAGraph | None:
        current = torch.cuda.current_stream()
        try:
            return self._capture(step)
        except RuntimeError as error:
            logger.warning("%s runs without a CUDA graph: %s", shape, error)
            return None
        finally:
            torch.cuda.set_stream(current)  # a failed capture leaves its own stream behind

    def _capture(self, step: StaticStep) -> torch.cuda.CUDAGraph:
        # The first run compiles kernels and makes handles, which a capture cannot hold. A step may run any number of
        # times: it writes the same keys and values again.
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            step.compute()
        torch.cuda.current_stream().wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # What other threads of the process do with the device meanwhile is their own affair.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            step.compute()
        return graph
