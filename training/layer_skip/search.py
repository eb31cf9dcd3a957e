"""Bayesian optimisation over which sublayers to leave out, as Draft & Verify (2309.08168) does it.

Every sublayer is a number between 0 and 1 that leaves it out above 0.5; a Gaussian process over what was measured says
where to look next. `bayesian-optimization` does that: it is maintained, small, and what the authors used. A few sets
that are often good are looked at first, and the last part of the looks goes to single changes of the best set, of which
a process of so few points over so many numbers knows little.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.skipping import NOTHING, SkipSet

Bits = tuple[bool, ...]
Score = Callable[[SkipSet], float]
LAST_LOOKS = 1 / 4
"""Share of all, around the best set."""


@dataclass(frozen=True, slots=True)
class Space:
    """The sublayers that can be left out."""

    num_layers: int
    mlps: Sequence[int]
    """Layers whose MLP can be."""

    @property
    def num_bits(self) -> int:
        return self.num_layers + len(self.mlps)

    def skip_of(self, bits: Bits) -> SkipSet:
        attention = [layer for layer in range(self.num_layers) if bits[layer]]
        return SkipSet.of(
            attention, [mlp for mlp, is_out in zip(self.mlps, bits[self.num_layers :], strict=True) if is_out]
        )

    def bits_of(self, skip: SkipSet) -> Bits:
        return (
            *(layer in skip.attention for layer in range(self.num_layers)),
            *(layer in skip.mlp for layer in self.mlps),
        )

    def probes(self) -> list[Bits]:
        """Nothing; the upper half's attention; the whole middle half; the whole upper quarter, half, three quarters."""
        num_layers = self.num_layers
        upper = [range(num_layers - round(share * num_layers), num_layers) for share in (0.25, 0.5, 0.75)]
        middle = range(num_layers // 4, num_layers - num_layers // 4)
        sets = [NOTHING, SkipSet.of(upper[1]), *(SkipSet.of(layers, layers) for layers in (middle, *upper))]
        return list(dict.fromkeys(map(self.bits_of, sets)))


@dataclass(slots=True)
class Found:
    """What was looked at, in order, and how good it was."""

    scores: dict[Bits, float] = field(default_factory=dict)

    @property
    def best(self) -> Bits:
        """The best, of equals the one that leaves out most: what adds nothing costs something."""
        return max(self.scores, key=lambda bits: (self.scores[bits], sum(bits)))

    @property
    def score(self) -> float:
        return self.scores[self.best]


def search(
    space: Space, score: Score, num_looks: int, seed: int, progress: Callable[[int, Found], None] | None = None
) -> Found:
    """Look at so many sets (fewer if there are no more); the same seed and scores give the same."""
    rng = random.Random(seed)
    found = Found()
    num_looks = min(num_looks, 2**space.num_bits)

    def look(bits: Bits) -> float:
        found.scores[bits] = score(space.skip_of(bits))
        if progress is not None:
            progress(len(found.scores), found)
        return found.scores[bits]

    optimiser = _Optimiser(space.num_bits, seed)
    for bits in space.probes()[:num_looks]:
        optimiser.tell(bits, look(bits))
    while len(found.scores) < num_looks - int(LAST_LOOKS * num_looks):
        bits = _unknown_near(optimiser.ask(), found, rng)
        optimiser.tell(bits, look(bits))
    while len(found.scores) < num_looks:
        look(_unknown_near(found.best, found, rng))
    return found


def _unknown_near(bits: Bits, found: Found, rng: random.Random) -> Bits:
    """The bits, or as few random flips away as leads to something new."""
    places = list(range(len(bits)))
    nearest = bits
    while nearest in found.scores:
        neighbours = [_flipped(nearest, place) for place in rng.sample(places, len(places))]
        nearest = next((other for other in neighbours if other not in found.scores), rng.choice(neighbours))
    return nearest


def _flipped(bits: Bits, place: int) -> Bits:
    return (*bits[:place], not bits[place], *bits[place + 1 :])


class _Optimiser:
    """Where to look next, by upper confidence bounds."""

    def __init__(self, num_bits: int, seed: int) -> None:
        try:
            from bayes_opt import BayesianOptimization
            from bayes_opt.acquisition import UpperConfidenceBound
        except ImportError:
            raise ValueError("the search needs `bayesian-optimization`; pip install polydraft[train]") from None

        class RandomPoints(UpperConfidenceBound):
            """The best of random points. The bound is the same all around a set's corner of the box, so that climbing
            it gains little, and in fifty dimensions takes longer than what is looked for."""

            def suggest(self, gp: Any, target_space: Any, *args: Any, **kwargs: Any) -> Any:
                return super().suggest(gp, target_space, *args, **kwargs | {"n_random": 2_000, "n_smart": 0})

        self._names = [f"x{place:04d}" for place in range(num_bits)]
        self._process = BayesianOptimization(
            f=None,
            pbounds=dict.fromkeys(self._names, (0.0, 1.0)),
            acquisition_function=RandomPoints(kappa=2.576),
            random_state=seed,
            verbose=0,
        )
        self._process.set_gp_params(alpha=1e-2, n_restarts_optimizer=0)

    def ask(self) -> Bits:
        point = self._process.suggest()
        return tuple(bool(point[name] > 0.5) for name in self._names)

    def tell(self, bits: Bits, score: float) -> None:
        """At the corner that the set is."""
        self._process.register(dict(zip(self._names, map(float, bits), strict=True)), score)
