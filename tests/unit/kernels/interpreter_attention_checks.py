"""Attention, compaction and what holds for every op, in Triton's interpreter; run like `interpreter_checks`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from polydraft_kernels import ops
from torch.utils._python_dispatch import TorchDispatchMode

from tests.unit.kernels.attention_cases import (
    MOVES,
    SHAPES,
    TOLERANCES,
    AttentionCase,
    make_attention_case,
    make_pools,
)
from tests.unit.kernels.every_op import OPS, call_of


def attend(case: AttentionCase, rows: slice, width: int | None = None) -> torch.Tensor:
    query, keys, values, slots, lengths, scale, window, softcap = case.arguments()
    return ops.tree_attention(
        query[:, rows], keys, values, slots[rows, :width], lengths[rows], scale, window, softcap, backend="triton"
    )


@pytest.mark.parametrize("name", SHAPES)
def test_attention_equals_the_reference(name: str) -> None:
    case = make_attention_case(SHAPES[name])

    torch.testing.assert_close(
        attend(case, slice(None)),
        ops.tree_attention(*case.arguments(), backend="reference"),
        rtol=0,
        atol=TOLERANCES[case.query_QTD.dtype],
    )


@pytest.mark.parametrize("name", ["plain", "window_and_softcap"])
def test_bits_of_a_row_do_not_depend_on_other_rows_or_padding(name: str) -> None:
    case = make_attention_case(SHAPES[name])
    together_TQD = attend(case, slice(None))

    for row in (0, 3, 6):
        length = int(case.lengths_T[row])
        assert torch.equal(attend(case, slice(row, row + 1), width=length), together_TQD[row : row + 1])


def test_attention_of_no_rows() -> None:
    assert attend(make_attention_case(SHAPES["plain"]), slice(0, 0)).shape == (0, 8, 16)


@pytest.mark.parametrize("name", MOVES)
def test_compaction_equals_the_reference(name: str) -> None:
    kv, expected = make_pools(), make_pools()
    sources = torch.tensor([source for source, _ in MOVES[name]], dtype=torch.int64)
    targets = torch.tensor([target for _, target in MOVES[name]], dtype=torch.int64)

    ops.compact_kv(kv, sources, targets, backend="triton")
    ops.compact_kv(expected, sources, targets, backend="reference")

    for pool, wanted in zip(kv.pools, expected.pools, strict=True):
        assert torch.equal(pool, wanted)


class RefusesToWait(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no annotations here
    """Raises at what would wait for a device, or make shapes that depend on data."""

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique"), name
        if name == "index":
            assert not any(index is not None and index.dtype == torch.bool for index in args[1]), "index by a mask"
        return func(*args, **(kwargs or {}))


def refusing_to_wait() -> RefusesToWait:
    return RefusesToWait()  # type: ignore[no-untyped-call]  # likewise


@pytest.mark.parametrize("name", OPS)
def test_no_op_waits_for_the_device(name: str) -> None:
    call = call_of(name, "cpu")

    with refusing_to_wait():
        call()


def test_waiting_is_noticed() -> None:
    with refusing_to_wait(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        torch.ones(1).item()
    with refusing_to_wait(), pytest.raises(AssertionError, match="index by a mask"):
        torch.ones(3)[torch.ones(3) > 0]
