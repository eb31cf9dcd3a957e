"""Long sequences: what a step costs from 128 to 4,096 positions, for a plain row, a tree and a prefill chunk.

    python -m benchmarks.long_context [--lengths 128 512 1024 2048 4096] [--repeats 15] [--output runs/long-context]

A target of the demo target's sizes with random weights and a context of 8,192, one thread, in this process. The rows of
all lengths take turns, so that a slow moment of the machine hits all of them; medians.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.results import tell
from engine.batch import WorkItem
from engine.kv_cache import KVCache
from engine.model import TargetModel, load_target
from engine.pages import PageId
from engine.tree import TokenTree

PAGE_SIZE = 16
CONTEXT = 8192
CHUNK = 64
TREE = TokenTree((5, 6, 7, 8, 9), (-1, 0, 1, -1, 0), (0, 0, 0, 1, 1))
WARMUPS = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians over repeats, milliseconds."""

    length: int
    row_ms: float
    tree_ms: float
    """A root and five nodes."""
    chunk_ms: float
    """64 tokens of a prompt, the last of them at this length."""


def random_target(sizes: Path, folder: Path) -> TargetModel:
    """A model of the sizes in a directory, with weights of its own and a long context."""
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(sizes, max_position_embeddings=CONTEXT)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return load_target(folder, None, torch.device("cpu"))


def measure(target: TargetModel, lengths: Sequence[int], repeats: int) -> list[Cost]:
    num_pages = -(-max(lengths) // PAGE_SIZE) + 2
    cache = KVCache(target.kv_layers, num_pages, PAGE_SIZE, target.dtype, target.device)
    for slots_SE in cache.slots:
        slots_SE.normal_()
    pages = [PageId(page) for page in range(1, num_pages)]
    random.Random(0).shuffle(pages)

    def time_ms(num_tokens: int, length: int, tree: TokenTree) -> float:
        item = WorkItem([5] * num_tokens, length - num_tokens, pages, tree, wants_logits=True)
        started_s = time.perf_counter()
        target.forward(target.pack([item], cache, 2))
        return 1e3 * (time.perf_counter() - started_s)

    works = {"row": (1, TokenTree()), "tree": (1, TREE), "chunk": (CHUNK, TokenTree())}
    times: dict[tuple[int, str], list[float]] = {}
    for _ in range(WARMUPS + repeats):
        for length in lengths:
            for name, (num_tokens, tree) in works.items():
                times.setdefault((length, name), []).append(time_ms(num_tokens, length, tree))
    medians = {key: statistics.median(values[WARMUPS:]) for key, values in times.items()}
    return [Cost(n, medians[n, "row"], medians[n, "tree"], medians[n, "chunk"]) for n in lengths]


def markdown(costs: Sequence[Cost]) -> str:
    """The table for people."""
    lines = ["| positions | one row, ms | tree of 5, ms | prefill chunk of 64, ms |", "|---:|---:|---:|---:|"]
    lines += [f"| {one.length} | {one.row_ms:.1f} | {one.tree_ms:.1f} | {one.chunk_ms:.1f} |" for one in costs]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, default=Path("models/target"), help="whose sizes to take")
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 512, 1024, 2048, 4096])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--output", type=Path, default=Path("runs/long-context"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        costs = measure(random_target(args.target, Path(folder)), args.lengths, args.repeats)
    figures = {"costs": [asdict(one) for one in costs]}
    tell(args.output, markdown(costs), figures)


if __name__ == "__main__":
    main()
