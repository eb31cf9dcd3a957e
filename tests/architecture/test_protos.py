"""The committed generated code is what protoc writes for the committed protos (`make protos`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    protos = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "protos").rglob("*.proto"))]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "."]
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]

    subprocess.run([*command, *outputs, *protos], cwd=ROOT, check=True)

    written = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*_pb2*.py*")}
    committed = {path.relative_to(ROOT): path.read_text() for path in (ROOT / "protos").rglob("*_pb2*.py*")}
    stale = [str(path) for path in written.keys() | committed.keys() if written.get(path) != committed.get(path)]
    assert len(written) == 3 * len(protos)
    assert sorted(stale) == [], "run `make protos`"
