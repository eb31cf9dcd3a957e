"""Which files belong to the project."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.conftest import ROOT

NOT_OURS = re.compile(r"^(\.git|\.venv|\.hypothesis|\.\w+_cache|__pycache__|build|dist|runs|.*\.egg-info)$")
"""Folders of caches and local output, as in .gitignore."""

GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")


def files(folder: Path = ROOT) -> list[Path]:
    """Every file of the project below `folder`, sorted."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not NOT_OURS.match(name)]
        found += [Path(parent, name) for name in names]
    return sorted(found)
