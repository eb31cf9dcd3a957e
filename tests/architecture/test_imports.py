"""Imports between the folders point one way, and `import polydraft` stays light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.imports import PACKAGES, imports_of, violations
from tests.conftest import ROOT


def test_imports_point_one_way() -> None:
    assert violations(ROOT) == []


def test_every_folder_of_the_table_is_there() -> None:
    assert [folder for folder in PACKAGES.values() if not any((ROOT / folder).rglob("*.py"))] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("cluster/a.py", "import engine.tree"),
        ("cluster/a.py", "def f():\n    from torch import Tensor"),
        ("engine/a.py", "from cluster import messages"),
        ("engine/drafters/a.py", "from protos.v1 import types_pb2"),
        ("engine/a.py", "import ray"),
        ("engine/a.py", "if True:\n    import triton.language as tl"),
        ("engine/a.py", "import kernels.polydraft_kernels"),
        ("training/a.py", "from deployments import app"),
        ("deployments/a.py", "from polydraft import Client"),
        ("protos/v1/a.py", "import cluster"),
        ("kernels/polydraft_kernels/ops.py", "import triton"),
        ("kernels/polydraft_kernels/ops.py", "import importlib\nimportlib.import_module('engine.tree')"),
        ("polydraft/a.py", "from cluster.config import load"),
        ("polydraft/a.py", "class A:\n    import torch"),
        ("polydraft/a.py", "def f():\n    import ray"),
        ("benchmarks/a.py", "import ray"),
        ("training/a.py", "from tests import fakes"),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, path: str, source: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(source)

    found = violations(tmp_path)

    assert len(found) == 1, found
    assert found[0].startswith(f"{path}:{1 + source.count(chr(10))}: ")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("polydraft/commands/a.py", "def f():\n    from cluster.config import load\n    import torch"),
        ("kernels/polydraft_kernels/triton/a.py", "import triton\nfrom ..reference import a"),
        ("deployments/a.py", "import ray\nfrom cluster import session\nfrom engine import engine"),
        ("engine/drafters/a.py", "from .. import tree\nfrom polydraft_kernels import ops"),
    ],
)
def test_a_lawful_import_is_let_through(tmp_path: Path, path: str, source: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(source)

    assert violations(tmp_path) == []


def test_relative_imports_are_resolved() -> None:
    found = [
        item.module for item in imports_of("from . import a\nfrom .. import b\nfrom ..c import d", "engine.verify")
    ]

    assert sorted(found) == ["engine", "engine.c", "engine.verify"]


def test_import_polydraft_is_light() -> None:
    program = "import sys, polydraft; print(*sorted({'ray', 'torch', 'transformers'} & set(sys.modules)))"

    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert result.stdout.strip() == ""
