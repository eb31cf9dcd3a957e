"""Which implementation is chosen."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch
from polydraft_kernels import ops
from polydraft_kernels.reference import catalogue as reference


@pytest.fixture(autouse=True)
def forget_triton() -> Iterator[None]:
    ops._triton_module.cache_clear()
    yield
    ops._triton_module.cache_clear()


def test_cpu_tensors_take_the_reference_and_leave_triton_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "polydraft_kernels.triton.catalogue", raising=False)

    assert ops._implementation(torch.empty(0, 1), "auto") is reference
    assert ops._implementation(torch.empty(0, 1), "reference") is reference
    assert "polydraft_kernels.triton.catalogue" not in sys.modules


def test_triton_on_cpu_tensors_is_refused_outside_its_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    with pytest.raises(ValueError, match="move them to a CUDA device"):
        ops.choose_greedy(torch.zeros(1, 3), backend="triton")


def test_a_missing_triton_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules is how Python marks a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "polydraft_kernels.triton.catalogue", None)
    monkeypatch.setenv("TRITON_INTERPRET", "1")

    with pytest.warns(UserWarning, match="kernels run in torch because Triton cannot be imported"):
        assert ops._triton_module() is None
    with pytest.raises(ValueError, match="Triton is not installed"):
        ops.choose_greedy(torch.zeros(1, 3), backend="triton")
