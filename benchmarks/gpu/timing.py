"""Device time of short calls: one graph that makes each call on each set of inputs, replayed between two events.

A graph, because the launch of one short kernel takes longer than the kernel; sets in turn, because an input that was
just read would come from the cache. On a CPU the calls are made as they are.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

LAPS = 5
"""Times that a graph goes through all sets."""


def median_us(calls: Sequence[Callable[[], object]], device: torch.device, repeats: int) -> float:
    """Median over replays of the mean time of a call, microseconds."""
    for call in calls:
        call()  # compiles kernels and makes handles
    if device.type != "cuda":
        return (
            statistics.median(_seconds(lambda: [call() for call in calls]) for _ in range(repeats)) * 1e6 / len(calls)
        )
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in [*calls] * LAPS:
            call()
    return statistics.median(replay_ms(graph, repeats)) * 1e3 / (len(calls) * LAPS)


def replay_ms(graph: torch.cuda.CUDAGraph, repeats: int) -> list[float]:
    """Times of single replays after one that warms up, milliseconds."""
    graph.replay()
    times_ms: list[float] = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times_ms.append(begin.elapsed_time(end))
    return times_ms


def _seconds(run: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    run()
    return time.perf_counter() - started_s
