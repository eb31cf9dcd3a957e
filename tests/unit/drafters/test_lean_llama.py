"""The lean forward computes what transformers' Llama does, however its rows are cut and batched."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LlamaForCausalLM

from engine.drafters.checkpoint import load_checkpoint
from engine.drafters.lean_llama import LeanLlama, Rows
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


def after(slot: int, start: int, tokens: list[int]) -> Rows:
    """The next rows of a sequence that has `start` of them in its slot."""
    return Rows(slot, start, tokens, range(start, start + len(tokens)))


@torch.inference_mode()
def expected(model: LlamaForCausalLM, lean: LeanLlama, rows: list[int]) -> Tensor:
    num_head_rows = lean.next_logits([after(lean.cache.allocate(), 0, rows[:1])], [1]).shape[1]
    logits_1TR: Tensor = model(torch.tensor([rows])).logits
    return logits_1TR[0, :, :num_head_rows]


def assert_close(actual_BV: Tensor, expected_BV: Tensor) -> None:
    assert actual_BV.shape == expected_BV.shape
    assert (actual_BV - expected_BV).abs().max() < TOLERANCE


def test_logits_agree_with_transformers_token_by_token(pair: tuple[LlamaForCausalLM, LeanLlama]) -> None:
    model, lean = pair
    rows = some_rows(model, 20)
    slot = lean.cache.allocate()

    logits = [lean.next_logits([after(slot, place, [row])], [1]) for place, row in enumerate(rows)]

    assert_close(torch.cat(logits), expected(model, lean, rows))


@pytest.mark.parametrize("length", [1, 2, CONTEXT - 1, CONTEXT])
def test_logits_agree_with_transformers_after_a_prefill(pair: tuple[LlamaForCausalLM, LeanLlama], length: int) -> None:
    model, lean = pair
    rows = some_rows(model, length)
    slot = lean.cache.allocate()
    if length > 3:
        lean.prefill(slot, rows[:-3])

    logits_1V = lean.next_logits([after(slot, max(0, length - 3), rows[-3:])], [1])

    assert_close(logits_1V, expected(model, lean, rows)[-1:])


def test_a_batch_of_unlike_lengths_and_row_counts_agrees(pair: tuple[LlamaForCausalLM, LeanLlama]) -> None:
    model, lean = pair
    lengths, counts, wanted = [5, 17, CONTEXT, 2, 60], [1, 4, 2, 2, 1], [1, 1, 2, 1, 1]
    sequences = [some_rows(model, length, seed=length) for length in lengths]
    slots = [lean.cache.allocate() for _ in lengths]
    starts = [length - count for length, count in zip(lengths, counts, strict=True)]
    for slot, rows, start in zip(slots, sequences, starts, strict=True):
        if start:
            lean.prefill(slot, rows[:start])

    rows_B = [after(s, start, rows[start:]) for s, start, rows in zip(slots, starts, sequences, strict=True)]
    logits_NV = lean.next_logits(rows_B, wanted)

    behind = [expected(model, lean, rows)[-count:] for rows, count in zip(sequences, wanted, strict=True)]
    assert_close(logits_NV, torch.cat(behind))


@pytest.mark.parametrize("num_others", [0, 1], ids=["alone", "batched"])
def test_nodes_of_a_tree_see_their_ancestors_alone(pair: tuple[LlamaForCausalLM, LeanLlama], num_others: int) -> None:
    model, lean = pair
    prompt = some_rows(model, 12)
    slot = lean.cache.allocate()
    lean.prefill(slot, prompt)
    others = [after(lean.cache.allocate(), 0, some_rows(model, 3, seed=9)) for _ in range(num_others)]
    # Two children of the prompt's end, then a child of each: places 12 to 15 behind the prompt's 12.
    lean.next_logits([Rows(slot, 12, [5, 6], [12, 12], see(12, [[12], [13]], 14)), *others], [2, *[1] * num_others])
    logits_NV = lean.next_logits(
        [Rows(slot, 14, [7, 8], [13, 13], see(12, [[12, 14], [13, 15]], 16)), *others], [2, *[1] * num_others]
    )

    branches = [expected(model, lean, [*prompt, *branch])[-1:] for branch in ((5, 7), (6, 8))]
    assert_close(logits_NV[:2], torch.cat(branches))


def see(num_committed: int, places: list[list[int]], length: int) -> NDArray[np.bool_]:
    """All committed places, and those listed for each row."""
    visible_QL = np.zeros((len(places), length), dtype=np.bool_)
    visible_QL[:, :num_committed] = True
    for row, own in enumerate(places):
        visible_QL[row, own] = True
    return visible_QL


def test_moved_places_are_read_where_they_went(pair: tuple[LlamaForCausalLM, LeanLlama]) -> None:
    model, lean = pair
    rows = some_rows(model, 10)
    slot = lean.cache.allocate()
    lean.prefill(slot, rows[:6])
    scattered = Rows(slot, 6, [3, rows[6], 4, rows[7], rows[8]], [6, 6, 7, 7, 8], see(6, SCATTERED, 11))
    lean.next_logits([scattered], [5])

    lean.cache.move(slot, [7, 9, 10], 6)
    logits_1V = lean.next_logits([after(slot, 9, rows[9:])], [1])

    assert_close(logits_1V, expected(model, lean, rows)[-1:])


SCATTERED = [[6], [7], [6, 8], [7, 9], [7, 9, 10]]
"""A wrong branch of two nodes between the three right ones."""


def test_padding_rows_leave_other_places_alone(pair: tuple[LlamaForCausalLM, LeanLlama]) -> None:
    model, lean = pair
    full, short, long = (some_rows(model, length, seed=length) for length in (CONTEXT, 3, 9))
    slots = [lean.cache.allocate() for _ in range(3)]
    lean.prefill(slots[0], full[:-1])

    lean.next_logits(
        [after(slots[0], CONTEXT - 1, full[-1:]), after(slots[1], 0, short), after(slots[2], 0, long)], [1] * 3
    )
    last = [after(slot, len(rows) - 1, rows[-1:]) for slot, rows in zip(slots, (full, short, long), strict=True)]
    again_BV = lean.next_logits(last, [1] * 3)

    assert_close(again_BV, torch.cat([expected(model, lean, rows)[-1:] for rows in (full, short, long)]))


def test_a_place_written_again_forgets_what_was_there(pair: tuple[LlamaForCausalLM, LeanLlama]) -> None:
    model, lean = pair
    rows, wrong = some_rows(model, 12), some_rows(model, 30, seed=1)
    slot = lean.cache.allocate()
    lean.prefill(slot, wrong)

    logits_1V = lean.next_logits([after(slot, 0, rows)], [1])

    assert_close(logits_1V, expected(model, lean, rows)[-1:])


def test_slots_and_places_grow_without_losing_what_is_there(tmp_path: Path) -> None:
    model = write_tiny_drafter(tmp_path, context_length=600)
    lean = LeanLlama(load_checkpoint(tmp_path), torch.float32, "cpu")
    rows = some_rows(model, 590)
    slot = lean.cache.allocate()
    lean.prefill(slot, rows[:200])
    others = {lean.cache.allocate() for _ in range(20)}

    logits_1V = lean.next_logits([after(slot, 200, rows[200:])], [1])

    assert slot not in others and len(others) == 20
    assert_close(logits_1V, expected(model, lean, rows)[-1:])


def test_bfloat16_stays_near_float32(tmp_path: Path) -> None:
    model = write_tiny_drafter(tmp_path, dtype=torch.bfloat16, num_layers=1)
    lean = LeanLlama(load_checkpoint(tmp_path), torch.bfloat16, "cpu")
    rows = some_rows(model, 20)

    logits_1V = lean.next_logits([after(lean.cache.allocate(), 0, rows)], [1])

    expected_1V = expected(model, lean, rows)[-1:]
    # bf16 keeps 8 bits: a few per cent of the scale of the logits through one layer.
    assert (logits_1V - expected_1V).abs().max() < 0.06 * expected_1V.abs().max()
