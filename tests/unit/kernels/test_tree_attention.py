"""The reference attention against float64 row by row, and against the engine's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from polydraft_kernels.reference.tree_attention import tree_attention

from engine.attention import IndexLists, LayerAttention, StepContext, attend
from engine.attention_plan import TILE
from engine.kv_cache import KVCache, LayerShape
from tests.unit.kernels.attention_cases import SHAPES, TOLERANCES, AttentionCase, make_attention_case


def attention_by_hand(case: AttentionCase) -> torch.Tensor:
    """float64, one row and head at a time."""
    group = case.query_QTD.shape[0] // case.keys_HSD.shape[0]
    outputs_TQ: list[list[torch.Tensor]] = []
    for row, length in enumerate(case.lengths_T.tolist()):
        first = 0 if case.window is None else max(0, length - case.window)
        slots = case.slots_TL[row, first:length]
        outputs_TQ.append([])
        for head, query_D in enumerate(case.query_QTD[:, row].double()):
            keys_LD = case.keys_HSD[head // group, slots].double()
            values_LD = case.values_HSD[head // group, slots].double()
            scores_L = keys_LD @ query_D * case.scale
            if case.softcap is not None:
                scores_L = case.softcap * torch.tanh(scores_L / case.softcap)
            outputs_TQ[-1].append(scores_L.softmax(0) @ values_LD)
    return torch.stack([torch.stack(outputs) for outputs in outputs_TQ])


@pytest.mark.parametrize("name", SHAPES)
def test_equals_float64_by_hand(name: str) -> None:
    case = make_attention_case(SHAPES[name])

    output_TQD = tree_attention(*case.arguments())

    assert output_TQD.dtype == torch.float32
    torch.testing.assert_close(
        output_TQD.double(), attention_by_hand(case), rtol=0, atol=TOLERANCES[case.query_QTD.dtype]
    )


@pytest.mark.parametrize("name", SHAPES)
def test_equals_the_attention_of_the_engine(name: str) -> None:
    shape = SHAPES[name]
    case = make_attention_case(shape)
    layer = LayerShape(shape.num_heads, shape.key_size, shape.value_size)
    cache = KVCache([layer], case.keys_HSD.shape[1], 1, shape.dtype, torch.device("cpu"))
    cache.keys(0).copy_(case.keys_HSD)
    cache.values(0).copy_(case.values_HSD)
    slots_TL = F.pad(case.slots_TL, (0, -case.slots_TL.shape[1] % TILE))
    step = StepContext(cache, case.lengths_T, IndexLists(slots_TL, case.lengths_T))
    query_TE = case.query_QTD.transpose(0, 1).flatten(1)

    of_engine_TE = attend(query_TE, step, 0, LayerAttention(layer, shape.group, case.scale, case.window, case.softcap))

    tolerance = {torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}[shape.dtype]  # it rounds to the dtype
    expected_TE = tree_attention(*case.arguments()).flatten(1)
    torch.testing.assert_close(of_engine_TE.float(), expected_TE, rtol=tolerance, atol=tolerance)
