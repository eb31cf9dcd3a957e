"""Drafters that are there already, with the acceptance that was measured of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from engine.drafters.checkpoint import read_manifest
from training.planning.shapes import DecoderShape, read_shape


@dataclass(frozen=True, slots=True)
class Trained:
    """A drafter's name, sizes and acceptance; its rows are those of its head."""

    name: str
    shape: DecoderShape
    acceptance: float


def read_trained(path: Path, drafters: Path) -> list[Trained]:
    """From a JSON object {directory, or name of one in `drafters`: acceptance}, or from the output of `evaluate`.

    Of the latter it takes each drafter's agreement on its own language. Raises ValueError for what is neither and for
    drafters that are not there.
    """
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{path}: expected an object {{drafter: acceptance}} or the output of evaluate")
    matrix = found.get("drafters")
    if isinstance(matrix, dict):
        found = {name: row.get(name, {}).get("agreement") for name, row in matrix.items()}
    return [_trained(path, name, acceptance, drafters) for name, acceptance in found.items()]


def _trained(path: Path, name: str, acceptance: object, drafters: Path) -> Trained:
    if not isinstance(acceptance, int | float) or not 0 <= acceptance <= 1:
        raise ValueError(f"{path}: the acceptance of {name} is {acceptance!r}; it must be a share from 0 to 1")
    places = [place for place in (Path(name), drafters / name) if (place / "drafter.json").is_file()]
    if not places:
        raise ValueError(f"{path}: neither {name} nor {drafters / name} is the directory of a drafter")
    shape = replace(read_shape(places[0]), rows=read_manifest(places[0]).num_head_tokens)
    return Trained(name, shape, float(acceptance))
