"""What a work directory was made from and by whom: `provenance.json` beside each checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from training.files import write_whole

PACKAGES = (
    "polydraft",
    "ray",
    "torch",
    "transformers",
    "triton",
    "tokenizers",
    "safetensors",
    "numpy",
    "datasets",
    "grpcio",
    "protobuf",
)
FILE = "provenance.json"


def stamp(
    directory: Path, made_from: Mapping[str, Any], settings: Mapping[str, Any], *, is_writer: bool = True
) -> None:
    """Note a run of a stage in `directory`; of several processes one is the writer, the others only compare.

    `made_from` (target, tokenizer, hashes of data, seed, shape) must be what it was when the directory was begun, or
    ValueError says what differs; `settings` (budget, rates) may change from run to run and are noted with each.
    """
    path = directory / FILE
    now: dict[str, Any] = json.loads(json.dumps(made_from))  # as it will be read back
    begun: dict[str, Any] = read(directory) if path.exists() else {"made_from": now, "runs": []}
    if begun["made_from"] != now:
        before = begun["made_from"]
        differing = sorted(key for key in {**before, **now} if before.get(key) != now.get(key))
        told = "; ".join(f"{key} was {before.get(key)}, is {now.get(key)}" for key in differing)
        raise ValueError(f"{directory} was made from something else: {told}; give another `work`, or remove it")
    if not is_writer:
        return
    run = {
        "argv": sys.argv,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": versions(),
        "settings": dict(settings),
    }
    write_whole(path, {"made_from": now, "runs": [*begun["runs"], run]})


def read(directory: Path) -> dict[str, Any]:
    """What `stamp` wrote; FileNotFoundError if no stage ran there."""
    path = directory / FILE
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; the stage has not run there (of several workers, worker 0)")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def commit() -> str:
    """Of the code, with `-dirty` if it was changed since; empty outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def versions() -> dict[str, str]:
    """Of Python and of the packages that figures and weights depend on."""
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # an extra that is not installed
            continue
    return found
