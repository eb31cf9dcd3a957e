"""What prefix sharing and chunked prefill are worth: `python -m benchmarks.prefix [--repeats N] [--json FILE]`.

In this process, one thread, over a llama of the demo target's sizes with random weights and a context of 8,192 tokens.
Milliseconds, medians over interleaved repeats with their 95 % interval:

- to the first token of two requests with the same 1,024 tokens in front, one after the other;
- the gaps between two tokens of a running session while a prompt of 4,096 tokens prefills, the middle one and the
  longest. Beside them the chunks of the same prompt with nobody running, and the whole prefill: the gap without chunks.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import count, pairwise
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engine.engine import Engine, EngineConfig
from engine.model import TargetModel, load_target
from engine.sampling import SamplingParams
from engine.scheduler import SchedulerConfig
from engine.session import LocalDrafting, OpenRequest
from engine.verify.verifiers import VERIFIERS
from polydraft.commands.bench_stats import ci95_of_median

PREFIX, REST, LONG, CONTEXT = 1024, 24, 4096, 8192
CHUNK, MAX_ROWS = 64, 256
VOCAB_SIZE = 8192
NUM_ALONE = 64
"""Tokens of the running session before the prompt comes."""

Times = dict[str, list[float]]
_ids = count(1)


def make_target(directory: Path) -> TargetModel:
    """The demo target's sizes, nothing learned; it never ends an answer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=384,
        intermediate_size=1152,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=3,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return load_target(directory, None, torch.device("cpu"))


def make_engine(target: TargetModel, max_rows: int) -> Engine:
    scheduler = SchedulerConfig(max_rows=max_rows, prefill_chunk=CHUNK, max_context=CONTEXT)
    return Engine(target, VERIFIERS["coupled"], EngineConfig(num_pages=1024, scheduler=scheduler))


def add(times_ms: Times, name: str, value: float) -> None:
    times_ms.setdefault(name, []).append(value)


def random_ids(rng: random.Random, length: int) -> tuple[int, ...]:
    return tuple(rng.randrange(VOCAB_SIZE) for _ in range(length))


def open_session(engine: Engine, token_ids: Sequence[int], max_tokens: int) -> int:
    session_id = next(_ids)
    engine.open(
        OpenRequest(session_id, tuple(token_ids), len(token_ids), SamplingParams(), max_tokens, local=LocalDrafting())
    )
    return session_id


def step(engine: Engine) -> set[int]:
    """One step; the sessions that have a new token."""
    return {outcome.session_id for outcome in engine.step()[0]}


def first_token_ms(engine: Engine, token_ids: Sequence[int]) -> float:
    """From opening a session to its first token; nobody else is there."""
    started = time.perf_counter()
    session_id = open_session(engine, token_ids, max_tokens=1)
    while session_id not in step(engine):
        pass
    return (time.perf_counter() - started) * 1e3


def measure_prefix(engine: Engine, rng: random.Random, times_ms: Times) -> None:
    """Two requests with one beginning, which no request before had."""
    prefix = random_ids(rng, PREFIX)
    for name in ("first request", "second request"):
        add(times_ms, name, first_token_ms(engine, (*prefix, *random_ids(rng, REST))))


def measure_gaps(engine: Engine, one_chunk: Engine, rng: random.Random, times_ms: Times) -> None:
    """A long prompt beside a running session, and alone in an engine whose steps are no longer than a chunk."""
    running = open_session(engine, random_ids(rng, 8), max_tokens=CONTEXT)
    alone = tokens_until(engine, running, num_tokens=NUM_ALONE)
    long_prompt = random_ids(rng, LONG)
    beside = tokens_until(engine, running, session_id=open_session(engine, long_prompt, max_tokens=1))
    engine.close(running)
    started = time.perf_counter()
    waiting = open_session(one_chunk, long_prompt, max_tokens=1)
    ends = [started]
    while waiting in one_chunk.scheduler.sequences:
        step(one_chunk)
        ends.append(time.perf_counter())
    add(times_ms, "gap, running alone", statistics.median(gaps_ms(alone)))
    add(times_ms, "gap beside the prompt", statistics.median(gaps_ms(beside)))
    add(times_ms, "longest gap beside the prompt", max(gaps_ms(beside)))
    add(times_ms, "chunk alone", statistics.median(gaps_ms(ends)))
    add(times_ms, "longest chunk alone", max(gaps_ms(ends)))
    add(times_ms, "whole prefill", (ends[-1] - started) * 1e3)


def tokens_until(engine: Engine, running: int, num_tokens: int = 0, session_id: int = 0) -> list[float]:
    """When the running session got its tokens, until it has so many more or another session its first."""
    arrivals: list[float] = [time.perf_counter()]
    new: set[int] = set()
    while session_id not in new if session_id else len(arrivals) <= num_tokens:
        new = step(engine)
        if running in new:
            arrivals.append(time.perf_counter())
    return arrivals


def gaps_ms(at_s: Sequence[float]) -> list[float]:
    return [(after - before) * 1e3 for before, after in pairwise(at_s)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        target = make_target(Path(directory))
    engine, one_chunk = make_engine(target, MAX_ROWS), make_engine(target, CHUNK)
    rng = random.Random(0)
    times_ms: Times = {}
    for repeat in range(1 + arguments.repeats):
        if repeat == 1:
            times_ms = {}  # the first one warmed up
        measure_prefix(engine, rng, times_ms)
        measure_gaps(engine, one_chunk, rng, times_ms)
    results = {}
    for name, values in times_ms.items():
        low, high = ci95_of_median(values, rng)
        results[name] = {"median_ms": statistics.median(values), "low_ms": low, "high_ms": high}
        print(f"{name:30s} {results[name]['median_ms']:8.1f} ms  ({low:.1f} to {high:.1f})")
    ratios = {
        "speedup": ratio(times_ms, "first request", "second request"),
        "gap_in_chunks": ratio(times_ms, "gap beside the prompt", "chunk alone"),
        "longest_gap_in_longest_chunks": ratio(times_ms, "longest gap beside the prompt", "longest chunk alone"),
    }
    print("  ".join(f"{name} {value:.2f}" for name, value in ratios.items()))
    if arguments.json:
        about = {"repeats": arguments.repeats, "dtype": str(target.dtype), "torch": torch.__version__}
        record = {"times": results} | ratios | about | {"python": platform.python_version()}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


def ratio(times_ms: Times, above: str, below: str) -> float:
    """Median over repeats of the ratio within each."""
    return statistics.median(a / b for a, b in zip(times_ms[above], times_ms[below], strict=True))


if __name__ == "__main__":
    main()
