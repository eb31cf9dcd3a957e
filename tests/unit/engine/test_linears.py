"""Packed layers compute what they replace; a layer that would not is left alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from engine import linears
from engine.linears import PackedLinear, can_pack, pack_linears

pytestmark = pytest.mark.skipif(
    not can_pack(torch.bfloat16, torch.device("cpu")), reason="this CPU has no bf16 kernels to pack for"
)


class Tied(nn.Module):
    """A linear layer with a bias, one without, and a head that shares the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        self.layers = nn.Sequential(nn.Linear(32, 48), nn.Linear(48, 32, bias=False))
        self.head = nn.Linear(32, 50, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids_1T: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(self.embedding(ids_1T)))
        return logits


@pytest.fixture
def model() -> Tied:
    torch.manual_seed(0)
    return Tied().bfloat16()


@torch.inference_mode()
def test_a_packed_model_computes_the_same(model: Tied) -> None:
    ids_1T = torch.arange(50)[None]
    expected = model(ids_1T).float()

    assert pack_linears(model) == 3

    assert not any(type(module) is nn.Linear for module in model.modules())
    assert model.embedding.weight.shape == (50, 32)
    torch.testing.assert_close(model(ids_1T).float(), expected, rtol=0.02, atol=0.02 * expected.abs().max().item())


def test_a_layer_whose_packed_form_differs_stays(
    model: Tied, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong(PackedLinear):
        def forward(self, rows: Tensor) -> Tensor:
            return super().forward(rows) * (1.1 if self.out_features == 48 else 1.0)

    monkeypatch.setattr(linears, "PackedLinear", Wrong)

    assert pack_linears(model) == 2

    assert type(model.layers[0]) is nn.Linear
    assert "Sequential.0 stays a plain layer" in caplog.text


def test_fp32_is_not_packed() -> None:
    assert not can_pack(torch.float32, torch.device("cpu"))
