"""The section of the configuration about one drafter."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from cluster.scaling_config import DrafterScaling, Resources, fixed_or_scaled
from cluster.schema import Count, FilePath, Fraction, Languages, LanguageTag, Names, Section


class Placement(Enum):
    """Where a drafter runs."""

    TIER = "tier"
    """In a deployment of its own."""
    TARGET = "target"
    """Between the target's steps: nothing to send, but its time is the target's."""


Widths = Annotated[
    tuple[Annotated[int, Field(ge=1, le=16)], ...],
    Field(min_length=1, max_length=16),
    BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v),
]
TEXT_METHODS = frozenset({"ngram", "ngram_tree"})
"""Without a neural model, at next to no cost."""
IN_TARGET = TEXT_METHODS | {"layer_skip"}
"""Methods that run in the target's step only."""
NO_MODEL = frozenset({"ngram", "layer_skip", "cascade"})
"""Methods that name no directory; `ngram_tree` may name one, the others must."""


class DrafterConfig(Section):
    """One drafter: a deployment of its own, or a method inside the target's step."""

    method: Literal["lm", "multi_candidate", "cape", "graph", "ngram", "ngram_tree", "layer_skip", "cascade"]
    """Those of a trained model are `lm`, which drafts the likeliest paths; `multi_candidate`: trees of fixed widths;
    `cape`: chains with runners-up where they are unsure; `graph`: likeliest paths that draft an n-gram once. Without
    one: `ngram` looks up what the sequence repeats; `ngram_tree` drafts from its text, and from an n-gram table if it
    has one (`polydraft build ngram`); with `layer_skip` the target drafts for itself without some of its sublayers."""
    model: FilePath | None = None
    models: dict[LanguageTag, FilePath] = Field(default_factory=dict)
    """In place of `model` one for each input language; requests in others get no drafts."""
    skip_file: FilePath | None = None
    """`layer_skip`: which sublayers; absent: `layer_skip.json` in the target's directory."""
    branching: Annotated[int, Field(ge=1, le=16)] = 4
    """`lm`, `graph`: most children of a node; 1 drafts chains, which some verifiers ask for."""
    widths: Widths = (4, 2, 2)
    """`multi_candidate`: children of each node, level by level."""
    of: Names = ()
    """`cascade`: the drafters that draft for each other, the dearest first. It has them for itself."""
    hand_over_after: Annotated[int, Field(ge=0, le=64)] | None = None
    """`cascade`: nodes of a drafter behind which the next goes on; absent: as many as are measured to pay."""
    languages: Languages = ()
    """Input languages that requests with speculation `auto` take it for. Where several drafters name a language, each
    request takes the one that is measured to pay best, also another in mid-answer, or none."""
    max_draft_tokens: Annotated[int, Field(ge=1, le=64)] = 8
    """Of a block: nodes of a tree, length of the chain for `ngram` and `layer_skip`."""
    replicas: Count = 1
    autoscaling: DrafterScaling | None = None
    """Instead of `replicas`."""
    num_cpus: Fraction = 0.1
    num_gpus: Fraction = 0.0
    resources: Resources = Field(default_factory=dict)
    num_threads: Count = 1
    placement: Annotated[Placement, Field(strict=False)] = Placement.TIER

    @property
    def costs_nothing(self) -> bool:
        """Whether a proposal costs so little that one may be made only to see how it would have fared."""
        return self.method in TEXT_METHODS

    @property
    def keeps_text(self) -> bool:
        """Whether it drafts from what was served before, where a tenant allows it."""
        return self.method == "ngram_tree"

    @property
    def model_files(self) -> dict[str, Path]:
        """Directories of its models, by the keys that name them."""
        one = {} if self.model is None else {"model": self.model}
        return one | {f"models.{tag}": path for tag, path in self.models.items()}

    @model_validator(mode="before")
    @classmethod
    def _place(cls, fields: Any) -> Any:
        is_bound = isinstance(fields, dict) and fields.get("method") in IN_TARGET
        return {"placement": Placement.TARGET.value} | fields if is_bound else fields

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.method in IN_TARGET and self.placement is Placement.TIER:
            raise ValueError(f"placement: method '{self.method}' runs in the target; remove the key")
        if not self.model_files and self.method not in NO_MODEL | {"ngram_tree"}:
            raise ValueError(f"model: missing; method '{self.method}' needs the directory of a drafter model")
        if self.model_files and self.method in NO_MODEL:
            raise ValueError(f"{next(iter(self.model_files))}: method '{self.method}' has none; remove the key")
        if self.model is not None and self.models:
            raise ValueError("models: set beside model; remove one of the two keys")
        if self.method == "cascade" and len(self.of) < 2:
            raise ValueError("of: a cascade is made of two drafters or more; name them, the dearest first")
        if self.method != "cascade" and (self.of or self.hand_over_after is not None):
            raise ValueError(f"{'of' if self.of else 'hand_over_after'}: only method 'cascade' has it; remove the key")
        if "widths" in self.model_fields_set and self.method != "multi_candidate":
            raise ValueError("widths: only method 'multi_candidate' has it; remove the key")
        if "branching" in self.model_fields_set and self.method not in ("lm", "graph"):
            raise ValueError(f"branching: method '{self.method}' has a shape of its own; remove the key")
        if self.method != "layer_skip" and self.skip_file is not None:
            raise ValueError("skip_file: only method 'layer_skip' has it; remove the key")
        fixed_or_scaled(self, "replicas", self.autoscaling, "autoscaling")
        if self.autoscaling is not None and self.placement is Placement.TARGET:
            raise ValueError("autoscaling: a drafter in the target's step has no replicas; remove the key")
        return self
