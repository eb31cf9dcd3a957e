"""Which sublayers of a target its own drafts leave out: a small JSON file beside the model, made by
`polydraft tune layer-skip`.

    {"format": 1, "target_id": ..., "num_layers": 6,
     "all": {"attention": [3, 4], "mlp": [2], "figures": {...}}, "languages": {"de": {...}, ...}}

Layers count from 0. `figures` are what the set was chosen by; nothing reads them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.skipping import SkipSet

FILE_NAME = "layer_skip.json"
_FORMAT = 1
_REMEDY = "make one with `polydraft tune layer-skip`"


@dataclass(frozen=True, slots=True)
class ChosenSet:
    """A set and the figures that it was chosen by."""

    skip: SkipSet
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SkipFile:
    """The sets of one target."""

    target_id: str
    """`engine.identity.target_id` of the model that they were chosen for."""
    num_layers: int
    default: ChosenSet
    """For inputs in all other languages."""
    languages: Mapping[str, ChosenSet] = field(default_factory=dict)

    def set_for(self, language: str) -> SkipSet:
        return self.languages.get(language, self.default).skip

    @property
    def sets(self) -> set[SkipSet]:
        return {chosen.skip for chosen in (self.default, *self.languages.values())}

    def write(self, path: Path) -> None:
        found = {
            "format": _FORMAT,
            "target_id": self.target_id,
            "num_layers": self.num_layers,
            "all": _fields_of(self.default),
            "languages": {tag: _fields_of(chosen) for tag, chosen in sorted(self.languages.items())},
        }
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def read_skip_file(path: Path) -> SkipFile:
    """ValueError says what is wrong with the file, and what makes a right one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is not there; {_REMEDY}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({error}); {_REMEDY}") from None
    try:
        if found["format"] != _FORMAT:
            raise ValueError(f"format {found['format']} is not {_FORMAT}")
        file = SkipFile(
            target_id=str(found["target_id"]),
            num_layers=int(found["num_layers"]),
            default=_chosen(found["all"]),
            languages={str(tag): _chosen(fields) for tag, fields in found["languages"].items()},
        )
        for skip in file.sets:
            if (problem := skip.problem(file.num_layers)) is not None:
                raise ValueError(problem)
    except KeyError as error:
        raise ValueError(f"{path}: {error} is missing; {_REMEDY}") from None
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: {error}; {_REMEDY}") from None
    return file


def _fields_of(chosen: ChosenSet) -> dict[str, Any]:
    skip = chosen.skip
    return {"attention": sorted(skip.attention), "mlp": sorted(skip.mlp), "figures": dict(chosen.figures)}


def _chosen(fields: Mapping[str, Any]) -> ChosenSet:
    layers = {kind: frozenset(int(layer) for layer in fields[kind]) for kind in ("attention", "mlp")}
    return ChosenSet(SkipSet(**layers), dict(fields.get("figures", {})))
