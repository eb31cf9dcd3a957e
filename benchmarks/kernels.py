"""Time of every kernel: `python -m benchmarks.kernels [--device cpu|cuda] [--vocab-size V] [--context L] [--json F]`.

Medians over repeats, microseconds. `torch` is the reference, `triton` the kernel (CUDA only), `floor` the fewest bytes
that have to be moved (inputs read once, results written once) over the bandwidth of a large copy on the same device.
On a CPU one thread is used and caches are warm, so small inputs can beat the floor; on CUDA the second cache is
flushed before each call, and what is timed is the device, not the launches. `greedy` is the baseline that a sampled
step is compared with.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from polydraft_kernels import noise, ops
from polydraft_kernels.kv_pools import KVPools
from polydraft_kernels.packing import PackedTrees, SamplingRows
from torch import Tensor

NUM_DRAFTED = 3
NUM_SESSIONS = (1, 16)
WARMUPS = 5
COPY_BYTES = {"cpu": 1 << 26, "cuda": 1 << 29}
FLUSH_BYTES = 1 << 28
"""More than the second cache of any GPU holds."""
LAYERS = {"cpu": (2, 2, 2, 64), "cuda": (32, 8, 4, 128)}
"""Layers, KV heads, query heads of each, head size."""


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    num_bytes: int
    run: Callable[[ops.Backend], object]


@dataclass(frozen=True, slots=True)
class Timing:
    torch_us: float
    triton_us: float | None
    floor_us: float


def median_us(run: Callable[[], object], repeats: int, device: str) -> float:
    """Median time of one call."""
    times_us = [one_us(run) if device == "cpu" else one_us_on_device(run) for _ in range(WARMUPS + repeats)]
    return statistics.median(times_us[WARMUPS:])


def one_us(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1e6


def one_us_on_device(run: Callable[[], object]) -> float:
    """Between two events. Flushing takes longer than launching, so the device does not wait for the host in between."""
    started, ended = (torch.Event("cuda", enable_timing=True) for _ in range(2))
    torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda").zero_()
    started.record()
    run()
    ended.record()
    ended.synchronize()
    elapsed_ms: float = started.elapsed_time(ended)
    return elapsed_ms * 1e3


def bytes_per_us(device: str, repeats: int) -> float:
    """Bandwidth of a copy, bytes read and bytes written."""
    source = torch.ones(COPY_BYTES[device], dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / median_us(lambda: target.copy_(source), repeats, device)


def noise_times(vocab_size: int, repeats: int) -> dict[str, float]:
    """One row of noise in numpy, as a drafter draws it."""
    hashed_ids = noise.hash_ids(np.arange(vocab_size))

    def bits() -> noise.UInt64s:
        return noise.bits_of_hashed(noise.row_state(7, noise.Stream.SHARED, 100), hashed_ids)

    return {
        "noise_bits_row": median_us(bits, repeats, "cpu"),
        "noise_gumbel_row": median_us(lambda: noise.gumbel_of_bits(bits()), repeats, "cpu"),
    }


def verification_cases(num_sessions: int, vocab_size: int, device: str) -> list[Case]:
    """A step in which every session has a chain of drafts."""
    chain, parents = list(range(NUM_DRAFTED)), list(range(-1, NUM_DRAFTED - 1))
    trees = PackedTrees.pack([0] * num_sessions, [chain] * num_sessions, [parents] * num_sessions, device)
    generator = torch.Generator().manual_seed(0)
    logits_TV = (torch.randn(trees.num_rows, vocab_size, generator=generator) * 3).bfloat16().to(device)
    draft_probs_TV = torch.softmax(logits_TV.float(), dim=1)
    rounds_B = torch.zeros(num_sessions, dtype=torch.int64, device=device)
    choices_T = trees.tokens_T.roll(-1)

    def rows(top_k: int, top_p: float) -> SamplingRows:
        count = trees.num_rows
        positions = list(range(count))
        return SamplingRows.build([0.8] * count, [top_k] * count, [top_p] * count, [7] * count, positions, device)

    plain, truncated = rows(0, 1.0), rows(50, 0.9)
    laws = (logits_TV, trees, draft_probs_TV, plain, rounds_B)
    both_laws = logits_TV.nbytes + draft_probs_TV.nbytes
    cases = {
        "greedy": (logits_TV.nbytes, lambda backend: ops.verify_greedy(logits_TV, trees, backend)),
        "coupled": (logits_TV.nbytes, lambda backend: ops.verify_coupled(logits_TV, trees, plain, backend)),
        "coupled_top_k_top_p": (
            logits_TV.nbytes,
            lambda backend: ops.verify_coupled(logits_TV, trees, truncated, backend),
        ),
        "chain_rejection": (both_laws, lambda backend: ops.verify_chain_rejection(*laws, backend)),
        "block": (both_laws, lambda backend: ops.verify_block(*laws, backend)),
        "multi_round": (both_laws, lambda backend: ops.verify_multi_round(*laws, backend)),
        "walk": (3 * trees.tokens_T.nbytes, lambda backend: ops.walk_trees(trees, choices_T, backend)),
    }
    return [Case(f"{name}_{num_sessions}_sessions", size, run) for name, (size, run) in cases.items()]


def kv_cases(num_sessions: int, context: int, device: str) -> list[Case]:
    """One layer's attention of chains, and all layers' compaction of one path of two tokens a session."""
    num_layers, num_heads, group, size = LAYERS[device]
    num_rows = num_sessions * (NUM_DRAFTED + 1)
    num_slots = num_sessions * context

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float32).bfloat16().to(device)

    pools = KVPools.of([normal(num_heads, num_slots, size) for _ in range(2 * num_layers)])
    query_QTD = normal(num_heads * group, num_rows, size)
    sessions_T = torch.arange(num_rows, device=device) // (NUM_DRAFTED + 1)
    slots_TL = sessions_T[:, None] * context + torch.arange(context, device=device)
    lengths_T = context - NUM_DRAFTED + torch.arange(num_rows, device=device) % (NUM_DRAFTED + 1)
    ends_B = torch.arange(1, num_sessions + 1, device=device) * context
    sources_N, targets_N = (torch.stack([ends_B - back, ends_B - back + 1], dim=1).flatten() for back in (2, 3))

    def attend(backend: ops.Backend) -> Tensor:
        keys_HSD, values_HSD = pools.pools[:2]
        return ops.tree_attention(query_QTD, keys_HSD, values_HSD, slots_TL, lengths_T, size**-0.5, backend=backend)

    read_once = 2 * pools.pools[0].nbytes + 3 * query_QTD.nbytes + slots_TL.nbytes
    moved = 2 * sources_N.shape[0] * len(pools.pools) * num_heads * size * 2
    return [
        Case(f"tree_attention_{num_sessions}_sessions", read_once, attend),
        Case(
            f"compact_kv_{num_sessions}_sessions",
            moved,
            lambda backend: ops.compact_kv(pools, sources_N, targets_N, backend),
        ),
    ]


def time_case(case: Case, bandwidth: float, repeats: int, device: str) -> Timing:
    triton_us = median_us(lambda: case.run("triton"), repeats, device) if device == "cuda" else None
    return Timing(
        torch_us=median_us(lambda: case.run("reference"), repeats, device),
        triton_us=triton_us,
        floor_us=case.num_bytes / bandwidth,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--context", type=int, default=512, help="positions of each session")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device: str = arguments.device
    torch.set_num_threads(1)
    noise_us = noise_times(arguments.vocab_size, arguments.repeats)
    for name, value in noise_us.items():
        print(f"{name:36s} {value:10.1f} us in numpy")
    timings: dict[str, Timing] = {}
    with torch.inference_mode():
        bandwidth = bytes_per_us(device, arguments.repeats)
        print(f"copy: {bandwidth / 1e3:.1f} GB/s\n{'':36s} {'torch':>10s} {'triton':>10s} {'floor':>10s}")
        for num_sessions in NUM_SESSIONS:
            cases = verification_cases(num_sessions, arguments.vocab_size, device)
            cases += kv_cases(num_sessions, arguments.context, device)
            for case in cases:
                timing = time_case(case, bandwidth, arguments.repeats, device)
                timings[case.name] = timing
                triton = "-" if timing.triton_us is None else f"{timing.triton_us:.1f}"
                print(f"{case.name:36s} {timing.torch_us:10.1f} {triton:>10s} {timing.floor_us:10.1f}")
    if arguments.json:
        versions = {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()}
        name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
        record = {"device": device, "device_name": name, "vocab_size": arguments.vocab_size} | versions
        record |= {"context": arguments.context, "copy_bytes_per_us": bandwidth, "noise_us": noise_us}
        record |= {"timings": {name: asdict(timing) for name, timing in timings.items()}}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
