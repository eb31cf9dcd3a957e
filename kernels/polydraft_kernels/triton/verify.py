"""Greedy and coupled verification: the target's choice at every row, then a walk along the choices."""

from __future__ import annotations

from torch import Tensor

from polydraft_kernels.packing import PackedTrees, SamplingRows, Walk
from polydraft_kernels.triton.choose_coupled import choose_coupled
from polydraft_kernels.triton.choose_greedy import choose_greedy
from polydraft_kernels.triton.walk_trees import walk_trees


def verify_greedy(logits_TV: Tensor, trees: PackedTrees) -> Walk:
    """Accept while the draft is the argmax; row t of the logits comes after reading row t's token."""
    return walk_trees(trees, choose_greedy(logits_TV))


def verify_coupled(logits_TV: Tensor, trees: PackedTrees, rows: SamplingRows) -> Walk:
    """Accept while the draft is the argmax of the perturbed scores (greedy rows: of the logits)."""
    return walk_trees(trees, choose_coupled(logits_TV, rows))
