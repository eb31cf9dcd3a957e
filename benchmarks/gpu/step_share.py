"""Which share of a large target's step verification takes: the whole step as one graph, then its verification alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from polydraft_kernels import ops
from polydraft_kernels.packing import PackedTrees, SamplingRows
from transformers import AutoModelForCausalLM, LlamaConfig

from benchmarks.gpu import inputs
from benchmarks.gpu.figures import Figure
from benchmarks.gpu.sizes import DecoderSize, Sizes
from benchmarks.gpu.timing import median_us
from engine.batch import WorkItem
from engine.kv_cache import KVCache
from engine.model import TargetModel, prepare_target
from engine.pages import PageId, num_pages_for
from engine.static_step import StaticStep, StepShape
from engine.tree import TokenTree
from engine.verify.verifiers import VERIFIERS

SECTION = "Step"
PAGE_SIZE = 16


def time_step(sizes: Sizes) -> Iterator[Figure]:
    """Greedy and sampled; with cuBLAS and with fixed tiles."""
    for is_invariant in (False, True):
        yield from _of_numerics(sizes, is_invariant=is_invariant)  # one target at a time fits the memory


def _of_numerics(sizes: Sizes, *, is_invariant: bool) -> Iterator[Figure]:
    target = _random_target(sizes, is_invariant=is_invariant)
    numerics = "invariant" if is_invariant else "fast"
    for temperature in (0.0, 0.8):
        step_us, verify_us = _times_us(sizes, target, temperature)
        name = f"numerics {numerics}, T = {temperature:g}"
        what = f"step of {sizes.num_sessions} sessions with {sizes.context} positions"
        yield Figure(SECTION, f"{what}, {name}", step_us / 1e3, "ms")
        yield Figure(SECTION, f"of it verification, {name}", 100 * verify_us / step_us, "%")


def decoder_config(size: DecoderSize, max_positions: int) -> LlamaConfig:
    """A Llama of that size with a tied head; id 0 pads and begins, 1 ends."""
    return LlamaConfig(
        vocab_size=size.vocab_size,
        hidden_size=size.width,
        intermediate_size=size.mlp_width,
        num_hidden_layers=size.num_layers,
        num_attention_heads=size.num_heads,
        num_key_value_heads=size.num_kv_heads,
        head_dim=size.head_size,
        max_position_embeddings=max_positions,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=0,
    )


def _random_target(sizes: Sizes, *, is_invariant: bool) -> TargetModel:
    torch.manual_seed(0)
    config = decoder_config(sizes.serving, sizes.context + 64)
    with torch.device(sizes.device):
        model = AutoModelForCausalLM.from_config(config, dtype=sizes.dtype)
    return prepare_target(model.requires_grad_(False), frozenset(), is_invariant=is_invariant)


def _times_us(sizes: Sizes, target: TargetModel, temperature: float) -> tuple[float, float]:
    """Of a step and of verification on logits like its own."""
    items = _work(sizes)
    num_drafted = sizes.rows_a_session - 1
    chain = list(range(-1, num_drafted - 1))
    trees = PackedTrees.pack([3] * len(items), [[5] * num_drafted] * len(items), [chain] * len(items))
    count = trees.num_rows
    rules = SamplingRows.build([temperature] * count, [0] * count, [1.0] * count, [7] * count, [*range(count)])
    num_pages = 1 + sum(len(item.pages) for item in items)
    cache = KVCache(target.kv_layers, num_pages, PAGE_SIZE, target.dtype, target.device)
    shape = StepShape.holding(trees, rules, sizes.context, min_rows=1)
    step = StaticStep(shape, target, cache, VERIFIERS["coupled"], captured=False)
    step.told.fill(items, PAGE_SIZE, trees, rules)
    step.send()
    step_us = median_us([step.compute], sizes.device, sizes.repeats)

    generator = inputs.generator_on(sizes.device, 0)
    logits_shape = (shape.num_rows, target.vocab_size)
    logits_TV = torch.randn(logits_shape, generator=generator, device=sizes.device).to(target.dtype)
    on_device = PackedTrees.pack([3] * len(items), [[5] * num_drafted] * len(items), [chain] * len(items), sizes.device)
    rows = inputs.sampled_rows(sizes, temperature)
    verify = partial(ops.verify_coupled, logits_TV[:count], on_device, rows)
    return step_us, median_us([verify], sizes.device, sizes.repeats)


def _work(sizes: Sizes) -> list[WorkItem]:
    """Sessions that have nearly filled their context, each with a chain."""
    pages_each = num_pages_for(sizes.context, PAGE_SIZE)
    tree = TokenTree.chain([5] * (sizes.rows_a_session - 1))
    return [
        WorkItem(
            [3],
            sizes.context - sizes.rows_a_session,
            [PageId(1 + number * pages_each + page) for page in range(pages_each)],
            tree,
            wants_logits=True,
        )
        for number in range(sizes.num_sessions)
    ]
