"""The lean forward computes what transformers' Llama does, however its rows are cut and batched."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from engine.drafters.checkpoint import load_checkpoint
from engine.drafters.lean_llama import LeanLlama
from tests.fakes_drafter import CONTEXT, write_tiny_drafter

TOLERANCE = 1e-4
"""fp32 on logits of scale 5: the sums run in another order."""


@pytest.fixture(scope="module", params=[1, 2], ids=["one-layer", "two-layers"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[LlamaForCausalLM, LeanLlama]:
    directory = tmp_path_factory.mktemp("drafter")
    model = write_tiny_drafter(directory, num_layers=request.param)
    return model, LeanLlama(load_checkpoint(directory), torch.float32, "cpu")


def some_rows(model: LlamaForCausalLM, length: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(model.config.vocab_size) for _ in range(length)]


@torch.inference_mode()
def expected(model: LlamaForCausalLM, lean: LeanLlama, rows: list[int]) -> Tensor:
    num_head_rows = lean.next_logits([lean.cache.allocate()], [0], [rows[:1]]).shape[1]
    logits_1TR: Tensor = model(torch.tensor([rows])).logits
    return logits_1TR[0, :, :num_head_rows]


def assert_close(actual_BV: Tensor, expected_BV: Tensor) -> None:
    assert actual_BV.shape == expected_BV.shape
    assert (actual_BV - expected_BV).abs().max() < TOLERANCE


def test_logits_agree_with_transformers_token_by_token(pair: tuple[LlamaForCausalLM, LeanLlama]) -> None:
    model, lean = pair
    rows = some_rows(model, 20)
    slot = lean.cache.allocate()

    logits = [lean.next_logits([slot], [position], [[row]]) for position, row in enumerate(rows)]

    assert_close(torch.cat(logits), expected(model, lean, rows))


@pytest.mark.parametrize("length", [1, 2, CONTEXT - 1, CONTEXT])
def test_logits_agree_with_transformers_after_a_prefill(pair: tuple[LlamaForCausalLM, LeanLlama], length: int) -> None:
    model, lean = pair
    rows = some_rows(model, length)
    slot = lean.cache.allocate()
    if length > 3:
        lean.prefill(slot, 0, rows[:-3])

    logits_1V = lean.next_logits([slot], [max(0, length - 3)], [rows[-3:]])

    assert_close(logits_1V, expected(model, lean, rows)[-1:])


def test_a_batch_of_unlike_lengths_and_row_counts_agrees(pair: tuple[LlamaForCausalLM, LeanLlama]) -> None:
    model, lean = pair
    lengths, counts = [5, 17, CONTEXT, 2, 60], [1, 4, 2, 2, 1]
    sequences = [some_rows(model, length, seed=length) for length in lengths]
    slots = [lean.cache.allocate() for _ in lengths]
    starts = [length - count for length, count in zip(lengths, counts, strict=True)]
    for slot, rows, start in zip(slots, sequences, starts, strict=True):
        if start:
            lean.prefill(slot, 0, rows[:start])

    logits_BV = lean.next_logits(slots, starts, [rows[start:] for rows, start in zip(sequences, starts, strict=True)])

    assert_close(logits_BV, torch.cat([expected(model, lean, rows)[-1:] for rows in sequences]))


def test_padding_rows_leave_other_positions_alone(pair: tuple[LlamaForCausalLM, LeanLlama]) -> None:
    model, lean = pair
    full, short, long = (some_rows(model, length, seed=length) for length in (CONTEXT, 3, 9))
    slots = [lean.cache.allocate() for _ in range(3)]
    lean.prefill(slots[0], 0, full[:-1])

    lean.next_logits(slots, [CONTEXT - 1, 0, 0], [full[-1:], short, long])
    again_BV = lean.next_logits(slots, [CONTEXT - 1, 2, 8], [full[-1:], short[-1:], long[-1:]])

    assert_close(again_BV, torch.cat([expected(model, lean, rows)[-1:] for rows in (full, short, long)]))


def test_a_position_written_again_forgets_what_was_there(pair: tuple[LlamaForCausalLM, LeanLlama]) -> None:
    model, lean = pair
    rows, wrong = some_rows(model, 12), some_rows(model, 30, seed=1)
    slot = lean.cache.allocate()
    lean.prefill(slot, 0, wrong)

    logits_1V = lean.next_logits([slot], [0], [rows])

    assert_close(logits_1V, expected(model, lean, rows)[-1:])


def test_slots_and_positions_grow_without_losing_what_is_there(tmp_path: Path) -> None:
    model = write_tiny_drafter(tmp_path, context_length=600)
    lean = LeanLlama(load_checkpoint(tmp_path), torch.float32, "cpu")
    rows = some_rows(model, 590)
    slot = lean.cache.allocate()
    lean.prefill(slot, 0, rows[:200])
    others = {lean.cache.allocate() for _ in range(20)}

    lean.prefill(slot, 200, rows[200:-1])
    logits_1V = lean.next_logits([slot], [len(rows) - 1], [rows[-1:]])

    assert slot not in others and len(others) == 20
    assert_close(logits_1V, expected(model, lean, rows)[-1:])


def test_bfloat16_stays_near_float32(tmp_path: Path) -> None:
    model = write_tiny_drafter(tmp_path, dtype=torch.bfloat16, num_layers=1)
    lean = LeanLlama(load_checkpoint(tmp_path), torch.bfloat16, "cpu")
    rows = some_rows(model, 20)

    logits_1V = lean.next_logits([lean.cache.allocate()], [0], [rows])

    expected_1V = expected(model, lean, rows)[-1:]
    # bf16 keeps 8 bits: a few per cent of the scale of the logits through one layer.
    assert (logits_1V - expected_1V).abs().max() < 0.06 * expected_1V.abs().max()
