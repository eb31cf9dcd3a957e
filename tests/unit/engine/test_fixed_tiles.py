"""A target whose linear layers are of fixed tiles serves as before; here through the reference of their kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from engine.attention import lone_block_of
from engine.checks import check_agreement
from engine.fused_projections import FusedProjections
from engine.lean_decoder import LeanDecoder
from engine.linears import FixedTileLinear, fix_tiles
from engine.model import load_target
from tests.tiny_targets import write_tiny_target

CPU = torch.device("cpu")


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_all_layers_are_replaced_and_agree_with_transformers(tmp_path: Path, family: str) -> None:
    target = load_target(write_tiny_target(tmp_path, family), torch.float32, CPU)

    assert fix_tiles(target.model) == 2 * 4 + 1  # each layer's fused query, gate, out and down; the head
    if target.lean is not None:
        target.lean = LeanDecoder(target.model, target.attention)

    assert not any(type(module) is nn.Linear for module in target.model.modules())
    fused = [module.linear for module in target.model.modules() if isinstance(module, FusedProjections)]
    assert all(isinstance(linear, FixedTileLinear) for linear in fused)
    assert check_agreement(target, 1) < 1e-4
    assert (target.lean is not None) == (family == "llama")


def test_a_layer_keeps_its_weight_and_bias() -> None:
    linear = nn.Linear(8, 5)
    rows_23I = torch.randn(2, 3, 8)

    fixed = FixedTileLinear(linear)

    assert fixed.weight is linear.weight
    torch.testing.assert_close(fixed(rows_23I), linear(rows_23I))


def test_attention_on_cuda_devices_is_the_kernel(tmp_path: Path) -> None:
    target = load_target(write_tiny_target(tmp_path), torch.float32, CPU)

    assert lone_block_of(target.attention, torch.float32, torch.device("cuda")) is None
