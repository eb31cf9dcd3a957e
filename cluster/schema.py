"""What the sections of the configuration have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from cluster.keys import HASH_PATTERN

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=1 << 31)]
Fraction = Annotated[float, Field(ge=0, le=1_000)]
Share = Annotated[float, Field(gt=0, le=1)]
# YAML has no paths and, strict as the schema is, takes no list for a tuple.
FilePath = Annotated[Path, BeforeValidator(lambda value: Path(value) if isinstance(value, str) else value)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
LanguageTag = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]
Languages = Annotated[tuple[LanguageTag, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]
Names = Annotated[tuple[Name, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]
KeyHashes = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=HASH_PATTERN)], ...],
    BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v),
]


class Section(BaseModel):
    """Strict and frozen; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
