"""Every op can be captured in a CUDA graph, and its replay gives what the call gives."""

from __future__ import annotations

from dataclasses import astuple

import pytest
import torch
from polydraft_kernels.packing import Walk

from tests.unit.kernels.every_op import OPS, call_of

pytestmark = pytest.mark.gpu


def tensors_of(result: object) -> list[torch.Tensor]:
    if isinstance(result, Walk):
        return list(astuple(result))
    return [result] if isinstance(result, torch.Tensor) else []


@pytest.mark.parametrize("name", OPS)
def test_capture_and_replay(name: str) -> None:
    call = call_of(name, "cuda")
    expected = [tensor.clone() for tensor in tensors_of(call())]  # and compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()

    with torch.cuda.graph(graph):
        captured = tensors_of(call())
    for tensor in captured:
        tensor.fill_(-7)
    graph.replay()

    for tensor, wanted in zip(captured, expected, strict=True):
        assert torch.equal(tensor, wanted)
