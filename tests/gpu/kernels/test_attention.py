"""Tree attention and compaction on a CUDA device against the reference on CPU."""

from __future__ import annotations

import pytest
import torch
from polydraft_kernels import ops

from tests.unit.kernels.attention_cases import (
    MOVES,
    SHAPES,
    TOLERANCES,
    AttentionCase,
    AttentionShape,
    make_attention_case,
    make_pools,
)

pytestmark = pytest.mark.gpu

LARGE = {
    "llama": AttentionShape(8, 4, 128, 128, torch.bfloat16),
    "gemma": AttentionShape(4, 2, 256, 256, torch.bfloat16, window=512, softcap=50.0),
    "fp32": AttentionShape(2, 7, 64, 64, torch.float32),
}
LONG = (1, 64, 500, 1023, 1024, 2048, 4000)


def attend(case: AttentionCase, rows: slice, width: int | None = None) -> torch.Tensor:
    query, keys, values, slots, lengths, scale, window, softcap = case.arguments()
    return ops.tree_attention(
        query[:, rows], keys, values, slots[rows, :width], lengths[rows], scale, window, softcap, backend="triton"
    )


@pytest.mark.parametrize("name", SHAPES)
def test_attention_equals_the_reference(name: str) -> None:
    case = make_attention_case(SHAPES[name], device="cuda")
    expected_TQD = ops.tree_attention(*make_attention_case(SHAPES[name]).arguments(), backend="reference")

    output_TQD = attend(case, slice(None))

    torch.testing.assert_close(output_TQD.cpu(), expected_TQD, rtol=0, atol=2 * TOLERANCES[case.query_QTD.dtype])


@pytest.mark.parametrize("name", LARGE)
def test_attention_over_long_sequences(name: str) -> None:
    case = make_attention_case(LARGE[name], LONG, 4096, "cuda")
    expected_TQD = ops.tree_attention(*make_attention_case(LARGE[name], LONG, 4096).arguments(), backend="reference")

    output_TQD = attend(case, slice(None))

    torch.testing.assert_close(output_TQD.cpu(), expected_TQD, rtol=0, atol=1e-5)
    for row, length in enumerate(LONG):
        # Bit for bit, whatever else is in the batch.
        assert torch.equal(attend(case, slice(row, row + 1), width=length), output_TQD[row : row + 1])


@pytest.mark.parametrize("name", MOVES)
def test_compaction_equals_the_reference(name: str) -> None:
    kv, expected = make_pools("cuda"), make_pools()
    sources = torch.tensor([source for source, _ in MOVES[name]], dtype=torch.int64)
    targets = torch.tensor([target for _, target in MOVES[name]], dtype=torch.int64)

    ops.compact_kv(kv, sources.cuda(), targets.cuda(), backend="triton")
    ops.compact_kv(expected, sources, targets, backend="reference")

    for pool, wanted in zip(kv.pools, expected.pools, strict=True):
        assert torch.equal(pool.cpu(), wanted)
