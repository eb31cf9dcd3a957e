"""What a benchmark writes down besides its figures: the machine, the versions, the commit."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import torch

from engine.dtypes import bf16_features
from training.provenance import commit, versions


def environment() -> dict[str, object]:
    """Facts that a figure means nothing without."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "machine": _processor(),
        "cpus": os.cpu_count(),
        "instructions": [torch.backends.cpu.get_cpu_capability(), *bf16_features()],
        "gpu": device,
        "versions": versions(),
        "commit": commit(),
    }


def headline() -> str:
    """The same in one line."""
    instructions = "/".join((torch.backends.cpu.get_cpu_capability(), *bf16_features()))
    where = f"{os.cpu_count()} cores of {_processor()} ({instructions})"
    return f"{where}, torch {torch.__version__}, commit {commit()[:7]}"


def tell(output: Path, table: str, figures: Mapping[str, object]) -> None:
    """Print what was measured, under the machine's line, and write it to `output`: .md for people, .json with facts."""
    text = f"{headline()}\n\n{table}"
    print(text)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".md").write_text(text + "\n")
    output.with_suffix(".json").write_text(json.dumps({**environment(), **figures}, indent=1) + "\n")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
