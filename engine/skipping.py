"""Steps of the target without some of its sublayers: what a sublayer left out would add to the residual is not added.

A skipped attention writes no keys and values and reads none. `LeanDecoder` passes by what is left out; models that run
through transformers' modules have these answer zeros, which leaves the residual as it is just the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

MLP_NAMES = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "moe")
"""What the families of transformers call the other half of a layer."""


@dataclass(frozen=True, slots=True)
class SkipSet:
    """Layers whose attention, and layers whose MLP a step leaves out, counted from 0."""

    attention: frozenset[int] = frozenset()
    mlp: frozenset[int] = frozenset()

    @classmethod
    def of(cls, attention: Sequence[int] = (), mlp: Sequence[int] = ()) -> SkipSet:
        return cls(frozenset(attention), frozenset(mlp))

    def __bool__(self) -> bool:
        """Whether anything is left out."""
        return bool(self.attention or self.mlp)

    def __len__(self) -> int:
        """Sublayers left out."""
        return len(self.attention) + len(self.mlp)

    def problem(self, num_layers: int) -> str | None:
        """Why a model of so many layers has no such sublayers, or None."""
        beyond = sorted(layer for layer in self.attention | self.mlp if not 0 <= layer < num_layers)
        return f"layer {beyond[0]} is none of the model's {num_layers}, which count from 0" if beyond else None

    def __str__(self) -> str:
        return f"attention {_listed(self.attention)}, mlp {_listed(self.mlp)}"


NOTHING = SkipSet()


def _listed(layers: frozenset[int]) -> str:
    return ",".join(map(str, sorted(layers))) or "-"


class Sublayers:
    """The attention and MLP modules of a transformers model. They are wrapped when something is first left out."""

    def __init__(self, model: nn.Module, attention: Sequence[nn.Module], run: Callable[[], object]) -> None:
        """`attention`: of each layer, in order; `run` has the model compute anything."""
        parent_of = {child: parent for parent in model.modules() for child in parent.children()}
        self._attention = list(attention)
        self._mlps = [_mlp_beside(module, parent_of[module]) for module in attention]
        self._run = run
        self._left_out: set[nn.Module] = set()
        self._is_wrapped = False

    def problem(self, skip: SkipSet) -> str | None:
        """Why these cannot be left out, or None."""
        if (problem := skip.problem(len(self._attention))) is not None:
            return problem
        missing = next((layer for layer in sorted(skip.mlp) if self._mlps[layer] is None), None)
        if missing is not None:
            return f"layer {missing} has no MLP module of its own; only its attention can be left out"
        return None

    @contextmanager
    def without(self, skip: SkipSet) -> Iterator[None]:
        """Meanwhile these are left out of whatever the model computes."""
        if not skip:
            yield
            return
        self._wrap()
        modules = [*(self._attention[layer] for layer in skip.attention), *(self._mlps[layer] for layer in skip.mlp)]
        self._left_out.update(module for module in modules if module is not None)
        try:
            yield
        finally:
            self._left_out.clear()

    def _wrap(self) -> None:
        if self._is_wrapped:
            return
        for module in (*self._attention, *self._mlps):
            if module is not None:
                module.forward = _or_zeros(module, self._left_out)
        self._is_wrapped = True
        self._run()  # tells the form of each result


def _mlp_beside(attention: nn.Module, layer: nn.Module) -> nn.Module | None:
    children = dict(layer.named_children())
    return next((children[name] for name in MLP_NAMES if children.get(name) not in (None, attention)), None)


def _or_zeros(module: nn.Module, left_out: set[nn.Module]) -> Callable[..., Any]:
    """The module's forward, or, while it is left out, zeros in the form of its last result."""
    forward: Callable[..., Any] = module.forward
    num_others: int | None = None
    """Further results, where they come as a tuple."""

    def run(*args: Any, **kwargs: Any) -> Any:
        nonlocal num_others
        if module not in left_out:
            result = forward(*args, **kwargs)
            num_others = len(result) - 1 if isinstance(result, tuple) else None
            return result
        rows = args[0] if args else kwargs["hidden_states"]
        zeros = torch.zeros_like(rows)
        return zeros if num_others is None else (zeros, *(None,) * num_others)

    return run
