"""Whatever proposes tokens. A new method is a file here, a line in `DRAFTERS`, a row in the conformance test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from engine.drafters.base import Drafter
from engine.drafters.cascade import cascade_of
from engine.drafters.config import DrafterConfig
from engine.drafters.dispatch import by_language
from engine.drafters.layer_skip import LayerSkipDrafter
from engine.drafters.lm import LMDrafter
from engine.drafters.ngram import NGramDrafter
from engine.drafters.shapes import SHAPES
from engine.drafters.text.ngram_tree import NGramTreeDrafter

__all__ = ["DRAFTERS", "Drafter", "DrafterConfig", "create_drafter"]

DRAFTERS: dict[str, Callable[[DrafterConfig], Drafter]] = {
    **dict.fromkeys(SHAPES, LMDrafter.from_config),
    "ngram": NGramDrafter.from_config,
    "ngram_tree": NGramTreeDrafter.from_config,
    "layer_skip": LayerSkipDrafter.from_config,
    "cascade": lambda config: cascade_of([create_drafter(stage) for stage in config.stages], config),
}


def create_drafter(config: DrafterConfig) -> Drafter:
    """The drafter that `config.method` names."""
    if config.method not in DRAFTERS:
        raise ValueError(f"unknown drafting method {config.method!r}; use one of {', '.join(sorted(DRAFTERS))}")
    if config.models:
        each = {tag: replace(config, model=model, models={}) for tag, model in config.models.items()}
        return by_language({tag: create_drafter(one) for tag, one in each.items()})
    return DRAFTERS[config.method](config)
