"""How large everything is: as served, or so small that a CPU runs every section in seconds (`--dry`)."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class DecoderSize:
    """A Llama."""

    width: int
    mlp_width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int
    head_size: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of one run."""

    device: torch.device
    dtype: torch.dtype
    num_sessions: int
    rows_a_session: int
    vocab_size: int
    context: int
    """Positions that each session's rows see."""
    num_kv_heads: int
    group: int
    head_size: int
    num_pools: int
    """Keys and values of all layers, for compaction."""
    copy_bytes: int
    num_input_sets: int
    """Rotated, so that no kernel finds its input in the cache."""
    repeats: int
    row_counts: tuple[int, ...]
    """Rows of the linear layers that are timed."""
    serving: DecoderSize
    """The shape whose step is timed with random weights."""
    target: DecoderSize
    drafter: DecoderSize
    """Both trained on the spot."""
    target_seconds: float
    drafter_seconds: float
    batch: int
    source_words: tuple[int, int]
    """Shortest and longest source of the synthetic languages."""
    num_prompts: int
    num_streams: int
    max_tokens: int
    end_to_end_repeats: int

    @property
    def num_rows(self) -> int:
        return self.num_sessions * self.rows_a_session


SMALL_VOCABULARY = 8192
"""Of the trained models: their languages need a few hundred tokens, a head of real size costs real time."""

FULL = Sizes(
    device=torch.device("cuda"),
    dtype=torch.bfloat16,
    num_sessions=64,
    rows_a_session=4,
    vocab_size=152_064,
    context=1024,
    num_kv_heads=8,
    group=4,
    head_size=128,
    num_pools=64,
    copy_bytes=2 << 30,
    num_input_sets=4,
    repeats=20,
    row_counts=(1, 16, 64, 256, 1024),
    serving=DecoderSize(4096, 11_008, 32, 32, 32, 32_000, 128),
    target=DecoderSize(1024, 2816, 26, 16, 8, SMALL_VOCABULARY, 64),
    drafter=DecoderSize(256, 512, 1, 4, 2, SMALL_VOCABULARY, 64),
    target_seconds=110.0,
    drafter_seconds=30.0,
    batch=64,
    source_words=(64, 96),
    num_prompts=3,
    num_streams=8,
    max_tokens=64,
    end_to_end_repeats=3,
)

DRY = Sizes(
    device=torch.device("cpu"),
    dtype=torch.float32,
    num_sessions=3,
    rows_a_session=4,
    vocab_size=199,
    context=40,
    num_kv_heads=2,
    group=2,
    head_size=16,
    num_pools=4,
    copy_bytes=1 << 16,
    num_input_sets=2,
    repeats=2,
    row_counts=(1, 5),
    serving=DecoderSize(32, 64, 2, 2, 2, 97, 16),
    target=DecoderSize(32, 64, 2, 2, 2, 192, 16),
    drafter=DecoderSize(32, 32, 1, 2, 1, 192, 16),
    target_seconds=1.0,
    drafter_seconds=1.0,
    batch=4,
    source_words=(6, 9),
    num_prompts=2,
    num_streams=2,
    max_tokens=8,
    end_to_end_repeats=1,
)
