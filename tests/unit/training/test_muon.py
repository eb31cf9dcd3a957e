"""Muon's two laws: updates turn a matrix evenly in all directions, and weight decay shrinks it by a known factor."""

from __future__ import annotations

import pytest
import torch

from training.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(24, 24), (48, 16), (16, 48)])
def test_an_update_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(2)

    update = orthogonalise(torch.randn(1, *shape, generator=generator))[0]

    singular_values = torch.linalg.svdvals(update)
    assert 0.87 < singular_values.min() <= singular_values.max() < 1.13


def test_weight_decay_shrinks_by_lr_times_decay() -> None:
    weight = torch.nn.Parameter(torch.ones(4, 4))
    optimizer = Muon([weight], lr=0.5, weight_decay=0.1)
    weight.grad = torch.zeros(4, 4)

    optimizer.step()

    assert torch.allclose(weight, torch.full((4, 4), 0.95))
