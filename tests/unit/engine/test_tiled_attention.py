"""Tiled attention equals its specification, whatever mixture of rows a step packs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from engine.attention import LayerAttention, attend
from engine.attention_plan import TILE
from engine.batch import WorkItem, pack, slots_of
from engine.kv_cache import KVCache, LayerShape
from engine.pages import PageId
from engine.tiled_attention import find_lone_block
from engine.tree import TokenTree

CPU = torch.device("cpu")
PAGE_SIZE = 16
NUM_HEADS, HEAD_SIZE = 2, 32
TREE = TokenTree((1, 2, 3, 4, 5), (-1, -1, 0, 2, 1), (0, 1, 0, 0, 0))


def items() -> list[WorkItem]:
    """A long prefill chunk, a lone row of a long sequence, trees before and across a border of tiles, a chain."""
    work = [
        ([5] * 70, TILE - 20, TokenTree()),
        ([5], 3 * TILE + 1, TokenTree()),
        ([5], 10, TREE),
        ([5], 2 * TILE - 3, TREE),
        ([5, 6, 7], 2 * TILE - 5, TREE),
        ([5], 40, TokenTree.chain([1, 2, 3])),
    ]
    first_page = 1
    packed = []
    for token_ids, num_cached, tree in work:
        num_pages = -(-(num_cached + len(token_ids) + len(tree)) // PAGE_SIZE)
        pages = [PageId(page) for page in range(first_page, first_page + num_pages)]
        packed.append(WorkItem(token_ids, num_cached, pages[::-1], tree, wants_logits=True))
        first_page += num_pages
    return packed


def slots_of_item(item: WorkItem) -> torch.Tensor:
    """Those of its positions and nodes."""
    return torch.from_numpy(slots_of(item.pages, PAGE_SIZE, item.num_cached + item.num_rows))


def attention_of(
    work: Sequence[WorkItem], cache: KVCache, query_TE: torch.Tensor, layer: LayerAttention, lone_block: int | None
) -> torch.Tensor:
    return attend(query_TE, pack(work, cache, 1, lone_block, CPU).context, 0, layer)


def test_what_one_sequence_holds_reaches_no_other() -> None:
    """Nor does what free slots hold, but for the blank one."""
    generator = torch.Generator().manual_seed(0)
    lone_block = find_lone_block(torch.float32, 1, HEAD_SIZE)
    if lone_block is None:
        pytest.skip("on this processor the kernel's rows depend on each other")
    shape = LayerShape(NUM_HEADS, HEAD_SIZE, HEAD_SIZE)
    cache = KVCache([shape], 128, PAGE_SIZE, torch.float32, CPU)
    cache.slots[0][1:] = torch.randn(cache.slots[0][1:].shape, generator=generator)
    layer = LayerAttention(shape, 1, scale=0.3)
    first, *others = work = items()
    query_TE = torch.randn(sum(item.num_rows for item in work), NUM_HEADS * HEAD_SIZE, generator=generator)
    held = torch.cat([slots_of_item(item) for item in others])
    spoilt = torch.ones(cache.slots[0].shape[0], dtype=torch.bool).index_fill_(0, held, False)
    spoilt[0] = False

    clean_TE = attention_of(work, cache, query_TE, layer, lone_block)
    cache.slots[0][spoilt] = torch.nan
    found_TE = attention_of(work, cache, query_TE, layer, lone_block)

    assert found_TE[: first.num_rows].isnan().all()
    assert torch.equal(found_TE[first.num_rows :], clean_TE[first.num_rows :])


@pytest.mark.parametrize("window", [None, 20, TILE + 9])
@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equals_the_specification_and_each_row_alone(dtype: torch.dtype, group: int, window: int | None) -> None:
    generator = torch.Generator().manual_seed(group)
    lone_block = find_lone_block(dtype, group, HEAD_SIZE)
    if lone_block is None:
        pytest.skip(f"on this processor the kernel's rows depend on each other in {dtype}")
    cache = KVCache([LayerShape(NUM_HEADS, HEAD_SIZE, HEAD_SIZE)], 128, PAGE_SIZE, dtype, CPU)
    cache.slots[0].copy_(torch.randn(cache.slots[0].shape, generator=generator))
    layer = LayerAttention(LayerShape(NUM_HEADS, HEAD_SIZE, HEAD_SIZE), group, scale=0.3, window=window)
    work = items()
    num_rows = sum(item.num_rows for item in work)
    query_TE = torch.randn(num_rows, NUM_HEADS * group * HEAD_SIZE, generator=generator).to(dtype)

    found_TE = attention_of(work, cache, query_TE, layer, lone_block)

    expected_TE = attention_of(work, cache, query_TE, layer, None)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found_TE, expected_TE, rtol=tolerance, atol=tolerance)
    first = 0
    for item in work:
        own_TE = query_TE[first : first + item.num_rows]
        alone_TE = attention_of([item], cache, own_TE, layer, lone_block)
        assert torch.equal(alone_TE, found_TE[first : first + item.num_rows])
        first += item.num_rows
