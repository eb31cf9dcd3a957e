"""Time of noise and verification: `python -m benchmarks.kernels [--device cpu|cuda] [--vocab-size V] [--json FILE]`.

Medians over repeats, microseconds, one thread on CPU. `greedy` is the baseline that a sampled step is compared with.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from polydraft_kernels import noise, ops
from polydraft_kernels.packing import PackedTrees, SamplingRows

NUM_DRAFTED = 3
WARMUPS = 5


def median_us(run: Callable[[], object], repeats: int, device: str) -> float:
    """Median time of one call."""
    times_us: list[float] = []
    for _ in range(WARMUPS + repeats):
        started = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times_us.append((time.perf_counter() - started) * 1e6)
    return statistics.median(times_us[WARMUPS:])


def time_noise(vocab_size: int, repeats: int) -> dict[str, float]:
    """One row of noise in numpy, as a drafter draws it."""
    hashed_ids = noise.hash_ids(np.arange(vocab_size))

    def bits() -> noise.UInt64s:
        return noise.bits_of_hashed(noise.row_state(7, noise.Stream.SHARED, 100), hashed_ids)

    return {
        "noise_bits_row": median_us(bits, repeats, "cpu"),
        "noise_gumbel_row": median_us(lambda: noise.gumbel_of_bits(bits()), repeats, "cpu"),
    }


def time_verification(num_sessions: int, vocab_size: int, repeats: int, device: str) -> dict[str, float]:
    """A step in which every session has a chain of drafts."""
    chain, parents = list(range(NUM_DRAFTED)), list(range(-1, NUM_DRAFTED - 1))
    trees = PackedTrees.pack([0] * num_sessions, [chain] * num_sessions, [parents] * num_sessions, device)
    generator = torch.Generator().manual_seed(0)
    logits_TV = (torch.randn(trees.num_rows, vocab_size, generator=generator) * 3).bfloat16().to(device)

    def rows(top_k: int, top_p: float) -> SamplingRows:
        count = trees.num_rows
        return SamplingRows.build(
            [0.8] * count, [top_k] * count, [top_p] * count, [7] * count, list(range(count)), device
        )

    plain, truncated = rows(0, 1.0), rows(50, 0.9)
    name = f"{num_sessions}_sessions"
    return {
        f"greedy_{name}": median_us(lambda: ops.verify_greedy(logits_TV, trees), repeats, device),
        f"coupled_{name}": median_us(lambda: ops.verify_coupled(logits_TV, trees, plain), repeats, device),
        f"coupled_top_k_top_p_{name}": median_us(
            lambda: ops.verify_coupled(logits_TV, trees, truncated), repeats, device
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    times_us = time_noise(arguments.vocab_size, arguments.repeats)
    with torch.inference_mode():
        for num_sessions in (1, 16):
            times_us |= time_verification(num_sessions, arguments.vocab_size, arguments.repeats, arguments.device)
    for name, value in times_us.items():
        print(f"{name:36s} {value:10.1f} us")
    if arguments.json:
        versions = {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()}
        record = {"device": arguments.device, "vocab_size": arguments.vocab_size, "times_us": times_us} | versions
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
