"""The reference compaction against a loop, and the table of pools."""

from __future__ import annotations

import pytest
import torch
from polydraft_kernels.kv_pools import KVPools
from polydraft_kernels.reference.kv_compaction import compact_kv

from tests.unit.kernels.attention_cases import MOVES, make_pools


@pytest.mark.parametrize("name", MOVES)
def test_equals_a_loop(name: str) -> None:
    kv, expected = make_pools(), make_pools()
    for pool in expected.pools:
        before = pool.clone()
        for source, target in MOVES[name]:
            pool[:, target] = before[:, source]

    compact_kv(
        kv,
        torch.tensor([source for source, _ in MOVES[name]], dtype=torch.int64),
        torch.tensor([target for _, target in MOVES[name]], dtype=torch.int64),
    )

    for pool, wanted in zip(kv.pools, expected.pools, strict=True):
        assert torch.equal(pool, wanted)


def test_rows_are_moved_in_the_largest_unit_that_divides_all() -> None:
    wide = torch.zeros(2, 8, 64, dtype=torch.bfloat16)

    assert KVPools.of([wide]).unit_bytes == 8
    assert KVPools.of([wide, torch.zeros(2, 8, 6, dtype=torch.bfloat16)]).unit_bytes == 4
    assert KVPools.of([wide, torch.zeros(2, 8, 5, dtype=torch.bfloat16)]).unit_bytes == 2
    assert KVPools.of([wide[:, :, 2:34]]).unit_bytes == 4
    assert KVPools.of([wide]).table_PF.tolist() == [[wide.data_ptr(), 2, 128, 16, 16]]


def test_pools_that_cannot_be_moved_are_refused() -> None:
    with pytest.raises(ValueError, match="no KV pools"):
        KVPools.of([])
    with pytest.raises(ValueError, match="not contiguous"):
        KVPools.of([torch.zeros(2, 8, 4).transpose(1, 2)])
