"""What a machine needs for a forward pass: public figures of GPUs, assumptions about the rest, and where each is from.

The target's decode steps on a GPU are captured graphs; the drafter's passes are not (`engine/drafters/lean_llama.py`),
so each of its calls is a launch of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

READ_SHARE, COMPUTE_SHARE = 0.8, 0.5
"""Of a datasheet's peaks, what matrix products of few rows are assumed to reach."""
TIER_ROUND_US = 3_500.0
"""Four messages a round, 3 to 4 ms (docs/performance.md)."""


class Runner(BaseModel):
    """How one of the two models runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight_bytes: float = Field(gt=0)
    bandwidth_gb_s: float = Field(gt=0)
    """At which a pass reads its weights."""
    tflops: float = Field(gt=0)
    """At which rows are multiplied."""
    overlaps: bool
    """Whether it multiplies while it reads, or each row beyond the first comes on top."""
    step_fixed_us: float = Field(ge=0)
    """A pass of no layers: scheduling, packing, choosing tokens."""
    layer_fixed_us: float = Field(ge=0)
    """A layer of no weights: launches or calls, attention."""
    row_fixed_us: float = Field(ge=0)
    """Each further row in a layer of no weights."""
    min_rows: int = Field(default=1, ge=1)
    """Numerics `invariant` pads smaller steps to so many."""


class Hardware(BaseModel):
    """A machine with target and drafter on it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    target: Runner
    drafter: Runner
    round_fixed_us: float = Field(default=0.0, ge=0)
    """What a round costs besides its passes: handing blocks over."""


@dataclass(frozen=True, slots=True)
class Sourced:
    """A machine, and for each figure (`target.tflops`, `round_fixed_us`) where it is from."""

    hardware: Hardware
    sources: dict[str, str] = field(default_factory=dict)

    def with_figures(self, figures: Mapping[str, float], source: str) -> Sourced:
        """The machine with some figures replaced; raises ValueError for values that cannot be."""
        tree = self.hardware.model_dump()
        for name, value in figures.items():
            owner, _, key = name.rpartition(".")
            (tree[owner] if owner else tree)[key] = value
        return Sourced(_checked(tree, source), self.sources | dict.fromkeys(figures, source))


NAMED = {
    # Bandwidth (GB/s), dense bf16 (TFLOPS), NVIDIA's public document.
    "h200": (4_800, 989, "H200 datasheet, SXM"),
    "h100": (3_350, 989, "H100 datasheet, SXM"),
    "h100-pcie": (2_000, 756, "H100 datasheet, PCIe"),
    "a100": (2_039, 312, "A100 datasheet, 80 GB SXM"),
    "l40s": (864, 362, "L40S datasheet"),
    "l4": (300, 121, "L4 datasheet"),
    "rtx-4090": (1_008, 165, "Ada architecture paper"),
}
_LAUNCH_US, _CAPTURED_US = 5.0, 2.0
"""Of a small kernel: launched by itself, and inside a captured graph."""
_TARGET_KERNELS, _DRAFTER_KERNELS = 11, 24
"""Of a layer: in the lean decoder, and of the drafter's tensor calls."""
_TARGET_STEP_US, _DRAFTER_STEP_US = 200.0, 300.0
"""Scheduling, one copy there and one back; a copy there, noise, choices and one wait."""


def named_hardware(name: str) -> Sourced:
    """A GPU of `NAMED`."""
    bandwidth_gb_s, tflops, document = NAMED[name]
    shared = {
        "weight_bytes": 2.0,
        "bandwidth_gb_s": READ_SHARE * bandwidth_gb_s,
        "tflops": COMPUTE_SHARE * tflops,
        "overlaps": True,
        "row_fixed_us": 0.0,
    }
    fixed = {
        "target": {"step_fixed_us": _TARGET_STEP_US, "layer_fixed_us": _TARGET_KERNELS * _CAPTURED_US},
        "drafter": {"step_fixed_us": _DRAFTER_STEP_US, "layer_fixed_us": _DRAFTER_KERNELS * _LAUNCH_US},
    }
    sources = {
        f"{owner}.{key}": source
        for owner in fixed
        for key, source in {
            "weight_bytes": "bf16",
            "bandwidth_gb_s": f"{document}: {bandwidth_gb_s:,}; of it {READ_SHARE} assumed",
            "tflops": f"{document}: {tflops} dense bf16; of it {COMPUTE_SHARE} assumed",
            "row_fixed_us": "assumed",
            "min_rows": "fixed tiles need no padding",
        }.items()
    }
    sources |= {
        "target.step_fixed_us": "assumed: scheduling and two copies",
        "target.layer_fixed_us": f"assumed: {_TARGET_KERNELS} captured kernels of {_CAPTURED_US:g} us",
        "drafter.step_fixed_us": "assumed: copies, noise, choices and a wait",
        "drafter.layer_fixed_us": f"assumed: {_DRAFTER_KERNELS} launches of {_LAUNCH_US:g} us, not captured",
    }
    tree = {"name": name} | {owner: shared | figures for owner, figures in fixed.items()}
    return Sourced(Hardware.model_validate(tree), sources)


def read_hardware(path: Path) -> Sourced:
    """From a YAML file with the fields of `Hardware`; raises ValueError that names what does not fit."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    hardware = _checked(tree, str(path))
    names = [f"{owner}.{key}" for owner in ("target", "drafter") for key in Runner.model_fields]
    return Sourced(hardware, dict.fromkeys([*names, "round_fixed_us"], f"given: {path}"))


def _checked(tree: object, source: str) -> Hardware:
    try:
        return Hardware.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(f"hardware ({source}): {where} is {first['input']!r}: {first['msg']}") from error
