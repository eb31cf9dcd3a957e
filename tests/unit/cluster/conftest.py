"""What the session tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.text import Tokenizer
from tests.unit.cluster.fakes import FakeClock, byte_tokenizer


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return byte_tokenizer(tmp_path)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
