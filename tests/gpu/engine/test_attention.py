"""The engine's attention and moves on a CUDA device against those on CPU, over one pool of random numbers."""

from __future__ import annotations

import pytest
import torch

from engine.attention import IndexLists, LayerAttention, StepContext, attend
from engine.kv_cache import KVCache, LayerShape

pytestmark = pytest.mark.gpu

NUM_PAGES, PAGE_SIZE = 40, 16
LAYERS = (LayerShape(2, 16, 16), LayerShape(1, 24, 40))
"""Of unlike sizes, as the widest decides how far apart the slots lie."""
GROUP = 3


def make_caches(dtype: torch.dtype) -> tuple[KVCache, KVCache]:
    """The same numbers on CPU and device."""
    caches = [KVCache(LAYERS, NUM_PAGES, PAGE_SIZE, dtype, torch.device(device)) for device in ("cpu", "cuda")]
    generator = torch.Generator().manual_seed(0)
    slots_T = torch.arange(NUM_PAGES * PAGE_SIZE)
    for layer, shape in enumerate(LAYERS):
        rows_TE = torch.randn(len(slots_T), shape.num_elements, generator=generator).to(dtype)
        for cache in caches:
            device = cache.slots[layer].device
            cache.write(layer, slots_T.to(device), rows_TE.to(device))
    return caches[0], caches[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (70, None), (None, 5.0)])
def test_attention_equals_that_on_cpu(dtype: torch.dtype, window: int | None, softcap: float | None) -> None:
    generator = torch.Generator().manual_seed(1)
    lengths_T = torch.tensor([1, 64, 129, 500])
    slots_TL = torch.randint(PAGE_SIZE, NUM_PAGES * PAGE_SIZE, (4, 512), generator=generator)
    on_cpu, on_device = make_caches(dtype)
    for layer, shape in enumerate(LAYERS):
        attention = LayerAttention(shape, GROUP, shape.key_size**-0.5, window, softcap)
        wide_TE = torch.randn(4, shape.num_heads * GROUP * shape.key_size + 8, generator=generator).to(dtype)
        outputs = []
        for cache in (on_cpu, on_device):
            device = cache.slots[layer].device
            reads = IndexLists(slots_TL.to(device), lengths_T.to(device))
            query_TE = wide_TE.to(device)[:, :-8]  # a view, as the lean step's
            outputs.append(attend(query_TE, StepContext(cache, reads.lengths_T, reads), layer, attention).cpu())

        tolerance = {torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
        torch.testing.assert_close(outputs[1], outputs[0], rtol=tolerance, atol=tolerance)


def test_moves_are_those_on_cpu() -> None:
    on_cpu, on_device = make_caches(torch.bfloat16)
    from_slots, to_slots = torch.tensor([35, 37, 38, 99, 101]), torch.tensor([33, 34, 35, 98, 99])

    on_cpu.move(from_slots, to_slots)
    on_device.move(from_slots.cuda(), to_slots.cuda())

    for one, other in zip(on_cpu.slots, on_device.slots, strict=True):
        assert torch.equal(other.cpu(), one)
