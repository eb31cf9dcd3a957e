"""The figures of this machine's processor: a few hundred milliseconds of products, steps and drafts.

Rates come from products of the target's and a drafter's own sizes, fixed costs from models so thin that their products
hardly count, at two depths and two numbers of rows. Medians of processor time: one thread, as the tiers run, and what
else the machine does adds little to it.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from engine.checks import NotInvariant, find_min_rows
from engine.drafters.base import DraftSession, DraftVerdict, DraftWork
from engine.drafters.checkpoint import DrafterCheckpoint
from engine.drafters.lm import LMDrafter
from engine.drafters.shapes import CHAIN
from engine.dtypes import best_drafter_dtype, best_target_dtype
from engine.engine import Engine, EngineConfig
from engine.linears import PackedLinear, can_pack
from engine.model import TargetModel
from engine.numerics import Numerics
from engine.sampling import SamplingParams
from engine.scheduler import SchedulerConfig
from engine.session import OpenRequest
from engine.tree import TokenTree
from engine.verify.verifiers import VERIFIERS
from training.planning.hardware import Hardware, Runner, Sourced
from training.planning.model import pass_s
from training.planning.random_models import MAX_CONTEXT, random_drafter, random_target
from training.planning.shapes import DecoderShape, drafter_shape

MakeProduct = Callable[[int, int], Callable[[Tensor], Tensor]]
"""From inputs and outputs to a product of rows with a matrix of that size."""

CPU = torch.device("cpu")
BLOCK = 5
"""Tokens drafted at once."""
PROMPT_TOKENS = 64
WARMUPS, REPEATS = 8, 40
_WIDTH_STEP = 64
_MOST_LAYERS = 12
"""Of a thin model."""
_LEAST_BYTES = 1 << 27
"""Of a large target so many are read, not all."""
_DRAFTER_ROWS = 2_048


def time_steps(target: TargetModel, draft_lengths: Sequence[int], repeats: int = REPEATS) -> list[float]:
    """Processor seconds of an engine's step with so many drafted tokens, one stream; lengths take turns. Medians."""
    rng = random.Random(0)
    config = EngineConfig(
        num_pages=2 * MAX_CONTEXT // 16,
        numerics=Numerics.FAST,
        measures_drafts=False,
        scheduler=SchedulerConfig(max_context=MAX_CONTEXT),
    )
    engine = Engine(target, VERIFIERS["coupled"], config)
    prompt = tuple(rng.randrange(target.vocab_size) for _ in range(PROMPT_TOKENS))
    engine.open(OpenRequest(1, prompt, len(prompt), SamplingParams(temperature=0.0), MAX_CONTEXT))
    outcomes, _ = engine.step()
    times_s: list[list[float]] = [[] for _ in draft_lengths]
    for _ in range(WARMUPS + repeats):
        for of_length, num_drafted in zip(times_s, draft_lengths, strict=True):
            outcome = outcomes[0]
            draft = TokenTree.chain([rng.randrange(target.vocab_size) for _ in range(num_drafted)])
            engine.draft(1, outcome.length, outcome.hash, draft)
            started_s = time.thread_time()
            outcomes, _ = engine.step()
            of_length.append(time.thread_time() - started_s)
    return [statistics.median(of_length[WARMUPS:]) for of_length in times_s]


def time_drafts(checkpoint: DrafterCheckpoint, repeats: int = REPEATS) -> float:
    """Processor seconds of a drafted token, with verdicts, in chains of `BLOCK` half of which is accepted. Median."""
    rng = random.Random(0)
    num_tokens = len(checkpoint.token_ids)
    drafter = LMDrafter(checkpoint, vocab_size=num_tokens + 1, dtype=best_drafter_dtype(CPU), shape=CHAIN)
    prompt = tuple(rng.randrange(num_tokens) for _ in range(PROMPT_TOKENS))
    drafter.open([DraftSession(1, prompt, SamplingParams(temperature=0.0))])
    times_s: list[float] = []
    for _ in range(WARMUPS + repeats):
        started_s = time.thread_time()
        (tree,) = drafter.propose([DraftWork(1, BLOCK)])
        committed = (*tree.token_ids[: BLOCK // 2], rng.randrange(num_tokens))
        drafter.observe([DraftVerdict(1, committed, len(committed) - 1)])
        times_s.append((time.thread_time() - started_s) / len(tree))
    return statistics.median(times_s[WARMUPS:])


def measure_this(target: DecoderShape) -> Sourced:
    """This machine, with rates at the sizes of `target` and of a drafter half as wide.

    Sets the process to one thread. ValueError if the machine is too busy: large products took no longer than thin ones.
    """
    torch.set_num_threads(1)
    width = max(target.hidden_size // 2 // _WIDTH_STEP, 2) * _WIDTH_STEP
    drafter = drafter_shape(1, width, 2, min(target.rows, _DRAFTER_ROWS))
    hardware = Hardware(name="this machine", target=_target_runner(target), drafter=_drafter_runner(drafter))
    names = [f"{owner}.{key}" for owner in ("target", "drafter") for key in Runner.model_fields]
    return Sourced(hardware, dict.fromkeys(names, "measured here"))


def _target_runner(shape: DecoderShape) -> Runner:
    dtype = best_target_dtype(CPU)

    def product(inputs: int, outputs: int) -> Callable[[Tensor], Tensor]:
        linear = nn.Linear(inputs, outputs, bias=False, dtype=dtype).requires_grad_(False)
        return PackedLinear(linear) if can_pack(dtype, CPU) else linear

    runner = _rates(shape, dtype, product)
    depths = (1, min(max(shape.layers, 3), _MOST_LAYERS))
    (shallow_s, _), (deep_s, drafted_s) = (_excess_s(_thin(shape, layers), runner) for layers in depths)
    runner = runner.model_copy(update={"min_rows": _min_rows(shape)})
    return _with_fixed(runner, depths, (shallow_s, deep_s), drafted_s - deep_s)


def _min_rows(shape: DecoderShape) -> int:
    """To which the engine pads steps of such a target; 1 where it could only serve it with numerics `fast`.

    Two layers: what one layer's rows pass by luck the other's do not.
    """
    try:
        return find_min_rows(random_target(replace(shape, layers=2)))
    except NotInvariant:
        return 1


def _excess_s(thin: DecoderShape, runner: Runner) -> tuple[float, float]:
    """Processor seconds that a thin target's steps, plain and with a draft, take beyond their products."""
    plain_s, drafted_s = time_steps(random_target(thin), (0, BLOCK))
    return plain_s - pass_s(thin, runner), drafted_s - pass_s(thin, runner, 1 + BLOCK)


def _drafter_runner(shape: DecoderShape) -> Runner:
    dtype = best_drafter_dtype(CPU)

    def product(inputs: int, outputs: int) -> Callable[[Tensor], Tensor]:
        weight = torch.rand(inputs, outputs).to(dtype)
        return lambda rows: torch.mm(rows, weight)

    runner = _rates(shape, dtype, product)
    depths = (1, 4)
    thin = [_thin(shape, layers) for layers in depths]
    times_s = [time_drafts(random_drafter(one)) - pass_s(one, runner) for one in thin]
    return _with_fixed(runner, depths, times_s, 0.0)


def _thin(shape: DecoderShape, layers: int) -> DecoderShape:
    width = math.lcm(_WIDTH_STEP, shape.heads)
    return replace(shape, layers=layers, hidden_size=width, intermediate_size=_WIDTH_STEP)


def _with_fixed(runner: Runner, depths: Sequence[int], times_s: Sequence[float], further_rows_s: float) -> Runner:
    """The fixed costs behind the times of thin models of two depths, and of `BLOCK` more rows in the deeper one."""
    layer_s = max((times_s[1] - times_s[0]) / (depths[1] - depths[0]), 0.0)
    fixed_us = {
        "step_fixed_us": max(times_s[0] - depths[0] * layer_s, 0.0) * 1e6,
        "layer_fixed_us": layer_s * 1e6,
        "row_fixed_us": max(further_rows_s, 0.0) / (BLOCK * depths[1]) * 1e6,
    }
    return runner.model_copy(update=fixed_us)


@torch.inference_mode()
def _rates(shape: DecoderShape, dtype: torch.dtype, product: MakeProduct) -> Runner:
    """Bandwidth and arithmetic of the products of all layers and the head; fixed costs left at zero.

    Both from what they take longer than products of the thin model, so that a call's own cost is not in them.
    """
    weight_bytes = dtype.itemsize
    layers = min(shape.layers, -(-_LEAST_BYTES // (shape.layer_weights * weight_bytes)))
    shape = replace(shape, layers=layers)
    thin = _thin(shape, layers)
    num_weights = shape.pass_weights - thin.pass_weights
    whole_s, thin_s = _product_times((shape, thin), dtype, product)
    one_s, many_s = (whole - call for whole, call in zip(whole_s, thin_s, strict=True))
    if one_s <= 0:
        raise ValueError("this machine is too busy to be measured; try again later, or give its figures in a YAML file")
    return Runner(
        weight_bytes=weight_bytes,
        bandwidth_gb_s=num_weights * weight_bytes / one_s / 1e9,
        tflops=2 * num_weights * BLOCK / max(many_s - one_s, 1e-2 * one_s) / 1e12,
        overlaps=False,
        step_fixed_us=0.0,
        layer_fixed_us=0.0,
        row_fixed_us=0.0,
    )


def _product_times(
    shapes: Sequence[DecoderShape], dtype: torch.dtype, product: MakeProduct
) -> list[tuple[float, float]]:
    """Processor seconds of all products of each shape one after the other, with one row and with `1 + BLOCK`.

    Medians; the shapes take turns, so that a busy moment is in all of them.
    """
    models = [_Products(shape, dtype, product) for shape in shapes]
    rounds = [[(model.seconds(1), model.seconds(1 + BLOCK)) for model in models] for _ in range(WARMUPS + REPEATS)]
    of_models = zip(*rounds[WARMUPS:], strict=True)
    return [
        (statistics.median(one for one, _ in times_s), statistics.median(many for _, many in times_s))
        for times_s in of_models
    ]


class _Products:
    """Those of all layers and the head of a model."""

    def __init__(self, shape: DecoderShape, dtype: torch.dtype, product: MakeProduct) -> None:
        queries, keys_values = shape.heads * shape.head_dim, 2 * shape.kv_heads * shape.head_dim
        sizes = [
            (shape.hidden_size, queries + keys_values),
            (queries, shape.hidden_size),
            (shape.hidden_size, 2 * shape.intermediate_size),
            (shape.intermediate_size, shape.hidden_size),
        ] * shape.layers + [(shape.hidden_size, shape.rows)]
        self._products = [(product(*size), size[0]) for size in sizes]
        self._rows = {(n, inputs): torch.rand(n, inputs).to(dtype) for n in (1, 1 + BLOCK) for inputs, _ in sizes}

    def seconds(self, num_rows: int) -> float:
        """Of the processor, for one after the other."""
        started_s = time.thread_time()
        for multiply, inputs in self._products:
            multiply(self._rows[num_rows, inputs])
        return time.thread_time() - started_s
