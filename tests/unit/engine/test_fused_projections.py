"""Fused projections compute what their parts computed; a group that would not is left alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from engine.fused_projections import FusedProjections, ProjectionPart, fuse_projections


class Mlp(nn.Module):
    def __init__(self, up_inputs: int = 32) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(32, 64)
        self.up_proj = nn.Linear(up_inputs, 48)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.gate_proj(rows), self.up_proj(rows)


@torch.inference_mode()
def test_one_product_gives_the_rows_of_all_parts() -> None:
    torch.manual_seed(0)
    mlp = Mlp()
    first, second = torch.randn(2, 1, 3, 32)
    expected = [*mlp(first), *mlp(second)]

    assert fuse_projections(nn.Sequential(mlp)) == 1

    products: list[Tensor] = []
    assert isinstance(mlp.gate_proj, ProjectionPart)
    mlp.gate_proj.fused.linear.register_forward_hook(lambda module, args, output: products.append(output))
    for found, wanted in zip([*mlp(first), *mlp(second)], expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert len(products) == 2  # one for each input


def test_layers_of_different_inputs_stay(caplog: pytest.LogCaptureFixture) -> None:
    mlp = Mlp(up_inputs=16)

    assert fuse_projections(mlp) == 0

    assert type(mlp.up_proj) is nn.Linear
    assert "their inputs, biases or dtypes differ" in caplog.text


def test_a_wide_product_that_gives_other_rows_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(FusedProjections, "forward", lambda self, rows: self.linear(rows) * 1.1)
    mlp = Mlp()

    assert fuse_projections(mlp) == 0

    assert not isinstance(mlp.gate_proj, ProjectionPart)
    assert "gate_proj, up_proj are not fused: the wide product gives other rows" in caplog.text
