"""Limits on the length of code and on the size of what is shipped."""

from __future__ import annotations

from tests.architecture.files import GENERATED, files
from tests.conftest import ROOT

MAX_LINES = 450
MAX_FILE_MIB = 15
MAX_MODELS_MIB = 42
MIB = 2**20


def test_no_code_file_is_too_long() -> None:
    code = [path for path in files() if path.suffix == ".py" and not GENERATED.search(path.name)]

    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in code}

    assert len(lengths) > 50
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_no_file_is_too_large() -> None:
    sizes = {str(path.relative_to(ROOT)): path.stat().st_size / MIB for path in files()}

    assert {name: round(size, 1) for name, size in sizes.items() if size > MAX_FILE_MIB} == {}


def test_the_demo_models_stay_small() -> None:
    assert sum(path.stat().st_size for path in files(ROOT / "models")) / MIB <= MAX_MODELS_MIB
