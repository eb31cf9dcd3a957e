"""The Triton kernels without a GPU: in the interpreter, and compiled for sm_90; each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDER = Path(__file__).resolve().parent


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=inherited | {"PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "name", ["interpreter_checks.py", "interpreter_attention_checks.py", "interpreter_linear_checks.py"]
)
def test_kernels_equal_the_reference_in_the_interpreter(name: str) -> None:
    checks = FOLDER / name

    finished = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(checks), TRITON_INTERPRET="1")

    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert " passed" in finished.stdout


def test_kernels_compile_for_sm90(tmp_path: Path) -> None:
    # An empty cache, so that it is compiled and not read back.
    finished = run_python(str(FOLDER / "compile_sm90.py"), TRITON_CACHE_DIR=str(tmp_path))

    assert finished.returncode == 0, finished.stdout + finished.stderr
    sizes = json.loads(finished.stdout)
    some_of_each = {
        "greedy_bf16",
        "screen_bf16",
        "recheck_fp32",
        "resample",
        "surplus",
        "surplus_of_round",
        "attention_bf16",
        "compact",
    }
    some_of_each |= {"linear_64_bf16", "linear_16_fp32", "surplus_of_round"}
    assert sizes.keys() >= some_of_each
    assert all(size > 0 for size in sizes.values())
