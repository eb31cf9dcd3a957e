"""What a drafted token costs on one thread: chains and trees of the `lm` drafter, the `ngram` lookup beside them.

    PYTHONPATH=.:kernels python -m benchmarks.drafter_step [--model models/drafters/de] [--json]

Without a model: random weights, 1 layer x 256 wide, 3,000 head rows. Other work on the machine only ever adds time, so
the minimum, the lower quartile and the thread's processor time are what to compare.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from engine.drafters.base import Drafter, DraftSession, DraftVerdict, DraftWork
from engine.drafters.checkpoint import EMBEDDING, DrafterCheckpoint, DrafterManifest, LlamaShape, load_checkpoint
from engine.drafters.lm import LMDrafter, resolve_dtype
from engine.drafters.ngram import NGramDrafter
from engine.drafters.shapes import CHAIN
from engine.sampling import SamplingParams

VOCAB_SIZE = 8192
BLOCK = 6


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds a drafted token (of the longest block of a batch), over repeats."""

    drafter: str
    num_sessions: int
    temperature: float
    min_ms: float
    lower_quartile_ms: float
    median_ms: float
    cpu_median_ms: float


def random_checkpoint(width: int, num_layers: int, num_head_tokens: int) -> DrafterCheckpoint:
    """A drafter of these sizes that has learned nothing."""
    shape = LlamaShape(
        width=width,
        mlp_width=3 * width,
        num_layers=num_layers,
        num_heads=4,
        num_kv_heads=2,
        head_size=64,
        context_length=512,
        rope_theta=10_000.0,
        norm_eps=1e-6,
    )
    query_width, kv_width = shape.num_heads * shape.head_size, shape.num_kv_heads * shape.head_size
    generator = torch.Generator().manual_seed(0)
    sizes: dict[str, tuple[int, ...]] = {EMBEDDING: (num_head_tokens + 501, width)}
    for layer in range(num_layers):
        sizes |= {
            f"model.layers.{layer}.{name}.weight": size
            for name, size in {
                "self_attn.q_proj": (query_width, width),
                "self_attn.k_proj": (kv_width, width),
                "self_attn.v_proj": (kv_width, width),
                "self_attn.o_proj": (width, query_width),
                "mlp.gate_proj": (shape.mlp_width, width),
                "mlp.up_proj": (shape.mlp_width, width),
                "mlp.down_proj": (width, shape.mlp_width),
            }.items()
        }
    weights = {name: torch.randn(size, generator=generator) * 0.05 for name, size in sizes.items()}
    norms = ["model.norm"]
    for layer in range(num_layers):
        norms += [f"model.layers.{layer}.input_layernorm", f"model.layers.{layer}.post_attention_layernorm"]
    weights |= {f"{norm}.weight": torch.ones(width) for norm in norms}
    manifest = DrafterManifest("xx", "random", "random", num_head_tokens)
    return DrafterCheckpoint(manifest, shape, tuple(range(num_head_tokens + 500)), weights)


def time_blocks(
    name: str, build: Callable[[], Drafter], num_sessions: int, temperature: float, context: int, repeats: int
) -> Timing:
    """Rounds of propose and observe with half of each block accepted, at a context that grows from `context` on."""
    rng = random.Random(0)
    drafter = build()
    prompts = [tuple(rng.randrange(2, 40) for _ in range(context)) for _ in range(num_sessions)]
    wall_ms: list[float] = []
    cpu_ms: list[float] = []
    while len(wall_ms) < repeats:
        sampling = SamplingParams(temperature=temperature, seed=len(wall_ms))
        drafter.open([DraftSession(index, prompt, sampling) for index, prompt in enumerate(prompts)])
        for _ in range(20):
            wall_start_s, cpu_start_s = time.perf_counter(), time.thread_time()
            trees = drafter.propose([DraftWork(index, BLOCK) for index in range(num_sessions)])
            num_tokens = max(1, *(len(tree) for tree in trees))
            cpu_ms.append(1e3 * (time.thread_time() - cpu_start_s) / num_tokens)
            wall_ms.append(1e3 * (time.perf_counter() - wall_start_s) / num_tokens)
            committed = [(*tree.token_ids[: BLOCK // 2], rng.randrange(2, 40)) for tree in trees]
            drafter.observe([DraftVerdict(index, tokens, len(tokens) - 1) for index, tokens in enumerate(committed)])
        drafter.close(range(num_sessions))
    wall_ms.sort()
    cpu_ms.sort()
    low, quartile, median = wall_ms[0], wall_ms[len(wall_ms) // 4], wall_ms[len(wall_ms) // 2]
    return Timing(name, num_sessions, temperature, low, quartile, median, cpu_ms[len(cpu_ms) // 2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="directory of a trained drafter")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--head-tokens", type=int, default=3000)
    parser.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16")
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    if arguments.model is not None:
        checkpoint = load_checkpoint(arguments.model)
    else:
        checkpoint = random_checkpoint(arguments.width, arguments.layers, arguments.head_tokens)
    dtype = resolve_dtype(arguments.dtype, "cpu")

    def build_chains() -> Drafter:
        return LMDrafter(checkpoint, vocab_size=VOCAB_SIZE, dtype=dtype, shape=CHAIN)

    def build_trees() -> Drafter:
        return LMDrafter(checkpoint, vocab_size=VOCAB_SIZE, dtype=dtype)

    def build_ngram() -> Drafter:
        return NGramDrafter((2, 3, 4), max_nodes=BLOCK)

    cases = [
        ("lm, chains", build_chains, 1, 0.0),
        ("lm, chains", build_chains, 1, 0.8),
        ("lm, chains", build_chains, 8, 0.0),
        ("lm, trees", build_trees, 1, 0.0),
        ("lm, trees", build_trees, 1, 0.8),
        ("lm, trees", build_trees, 8, 0.0),
        ("ngram", build_ngram, 1, 0.0),
    ]
    timings = [time_blocks(*case, arguments.context, arguments.repeats) for case in cases]
    if arguments.json:
        print(json.dumps({"dtype": str(dtype), "torch": torch.__version__, "timings": [asdict(t) for t in timings]}))
        return
    print(f"{checkpoint.shape}\n{checkpoint.manifest.num_head_tokens} head rows, {dtype}, blocks of {BLOCK}\n")
    print(f"{'ms a drafted token':<22}{'sessions':>9}{'T':>5}{'min':>9}{'lower q.':>9}{'median':>9}{'cpu median':>12}")
    for timing in timings:
        print(
            f"{timing.drafter:<22}{timing.num_sessions:>9}{timing.temperature:>5}"
            f"{timing.min_ms:>9.3f}{timing.lower_quartile_ms:>9.3f}{timing.median_ms:>9.3f}"
            f"{timing.cpu_median_ms:>12.3f}"
        )


if __name__ == "__main__":
    main()
