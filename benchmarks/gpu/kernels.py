"""The kernels of a step, against the bandwidth that a plain copy reaches and against cuBLAS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from polydraft_kernels import ops
from polydraft_kernels.packing import PackedTrees
from torch import Tensor

from benchmarks.gpu import inputs
from benchmarks.gpu.figures import Figure
from benchmarks.gpu.inputs import AttentionInputs
from benchmarks.gpu.sizes import Sizes
from benchmarks.gpu.timing import median_us

SECTION = "Kernels"
GREEDY_BOUND, COUPLED_BOUND = 0.8, 0.4
"""Of the measured bandwidth: greedy only reads; coupled computes 64 random bits a token besides."""

Calls = Sequence[Callable[[], object]]


@torch.inference_mode()
def time_kernels(sizes: Sizes) -> Iterator[Figure]:
    """Times, and shares of the bandwidth that was measured first."""
    bytes_per_us = _copy_bandwidth(sizes)
    yield Figure(SECTION, "copy, bytes read and written", bytes_per_us / 1e3, "GB/s")
    yield from _verification(sizes, bytes_per_us)
    yield from _attention(sizes, bytes_per_us)
    yield from _compaction(sizes, bytes_per_us)
    yield from _linear(sizes)
    yield from _truncated(sizes, bytes_per_us)


def _copy_bandwidth(sizes: Sizes) -> float:
    """Bytes a microsecond."""
    sources = [torch.randn(sizes.copy_bytes // 4, device=sizes.device) for _ in range(2)]
    target = torch.empty_like(sources[0])
    times_us = median_us([partial(target.copy_, source) for source in sources], sizes.device, sizes.repeats)
    return 2 * target.nbytes / times_us


def _verification(sizes: Sizes, bytes_per_us: float) -> Iterator[Figure]:
    pairs = _logits_and_trees(sizes)
    rules = inputs.sampled_rows(sizes, 0.8)
    methods: dict[str, tuple[Calls, float]] = {
        "greedy": ([partial(ops.verify_greedy, *pair) for pair in pairs], GREEDY_BOUND),
        "coupled": ([partial(ops.verify_coupled, *pair, rules) for pair in pairs], COUPLED_BOUND),
    }
    for name, (calls, bound) in methods.items():
        what = f"{name} verification, {sizes.num_rows} rows, V = {sizes.vocab_size}"
        yield from _timed(sizes, what, calls, pairs[0][0].nbytes, bytes_per_us, bound)


def _truncated(sizes: Sizes, bytes_per_us: float) -> Iterator[Figure]:
    """Top-k and top-p sort every row in torch."""
    pairs = _logits_and_trees(sizes)
    calls = [partial(ops.verify_coupled, *pair, inputs.sampled_rows(sizes, 0.8, 50, 0.9)) for pair in pairs]
    name = f"coupled verification with top-k and top-p, {sizes.num_rows} rows, V = {sizes.vocab_size}"
    yield from _timed(sizes, name, calls, pairs[0][0].nbytes, bytes_per_us)


def _logits_and_trees(sizes: Sizes) -> list[tuple[Tensor, PackedTrees]]:
    sets = [inputs.random_logits(sizes, seed) for seed in range(sizes.num_input_sets)]
    return [(logits_TV, inputs.likely_trees(sizes, logits_TV)) for logits_TV in sets]


def _attention(sizes: Sizes, bytes_per_us: float) -> Iterator[Figure]:
    cases = [inputs.attention_inputs(sizes, seed) for seed in range(2)]

    def attend(case: AttentionInputs) -> Tensor:
        pool = (case.keys_HSD, case.values_HSD)
        return ops.tree_attention(case.query_QTD, *pool, case.slots_TL, case.lengths_T, case.scale)

    name = f"tree attention, {sizes.num_rows} rows over {sizes.context} positions, one layer"
    yield from _timed(sizes, name, [partial(attend, case) for case in cases], cases[0].num_bytes, bytes_per_us)


def _compaction(sizes: Sizes, bytes_per_us: float) -> Iterator[Figure]:
    moves = inputs.path_moves(sizes)
    kv = inputs.kv_pools(sizes, seed=0)
    num_bytes = 2 * len(moves[0]) * sum(pool[:, 0].nbytes for pool in kv.pools)
    name = f"compaction, {len(moves[0])} moves in {len(kv.pools)} pools"
    yield from _timed(sizes, name, [partial(ops.compact_kv, kv, *moves)], num_bytes, bytes_per_us)


def _timed(
    sizes: Sizes,
    name: str,
    calls: Calls,
    num_bytes: int,
    bytes_per_us: float,
    bound: float | None = None,
) -> Iterator[Figure]:
    """Time, and the share of the bandwidth at which the bytes that must move did."""
    times_us = median_us(calls, sizes.device, sizes.repeats)
    yield Figure(SECTION, name, times_us, "us", note=f"floor {num_bytes / bytes_per_us:.3g} us")
    yield Figure(SECTION, f"{name}: share of the bandwidth", num_bytes / bytes_per_us / times_us, "", bound)


def _linear(sizes: Sizes) -> Iterator[Figure]:
    """All layers of the serving shape, summed as a step runs them."""
    shapes = inputs.linear_shapes(sizes)
    num_times = dict.fromkeys(shapes, sizes.serving.num_layers) | {"head": 1}
    for num_rows in sizes.row_counts:
        totals_ms = {"cuBLAS": 0.0, "fixed tiles": 0.0}
        for name, (num_inputs, num_outputs) in shapes.items():
            sets = [
                inputs.linear_inputs(sizes, num_rows, num_inputs, num_outputs, seed)
                for seed in range(sizes.num_input_sets)
            ]
            ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cuBLAS": F.linear, "fixed tiles": ops.fixed_linear}
            for way, multiply in ways.items():
                time_us = median_us([partial(multiply, *pair) for pair in sets], sizes.device, sizes.repeats)
                totals_ms[way] += num_times[name] * time_us / 1e3
        for way, total_ms in totals_ms.items():
            yield Figure(SECTION, f"linear layers of a step of {num_rows} rows, {way}", total_ms, "ms")
        ratio = totals_ms["fixed tiles"] / totals_ms["cuBLAS"]
        yield Figure(SECTION, f"what `invariant` costs them at {num_rows} rows", ratio, "times")
