"""Several weights side by side propose what each would propose alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.drafters import Drafter, DrafterConfig, create_drafter
from engine.drafters.base import DraftSession, DraftVerdict, DraftWork
from engine.drafters.versioned import VersionedDrafter
from engine.sampling import SamplingParams
from tests.fakes_drafter import EOS, VOCAB_SIZE, write_tiny_drafter

SEQUENCE = (5, 9, 11, 20)
VERSIONS = ("", "acme.1", "other.1")


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    paths = {version: tmp_path_factory.mktemp("drafter") for version in VERSIONS}
    for seed, path in enumerate(paths.values()):
        write_tiny_drafter(path, seed=seed)
    return paths


def load(directory: Path) -> Drafter:
    config = DrafterConfig("lm", VOCAB_SIZE, (EOS,), model=directory, dtype="float32", min_confidence=0.0)
    return create_drafter(config)


@pytest.fixture
def versioned(directories: dict[str, Path]) -> VersionedDrafter:
    drafter = VersionedDrafter(load(directories[""]))
    for version in VERSIONS[1:]:
        drafter.add(version, load(directories[version]))
    return drafter


def session(number: int, version: str = "") -> DraftSession:
    return DraftSession(number, SEQUENCE, SamplingParams(), version)


def test_each_session_is_drafted_for_by_its_version(versioned: VersionedDrafter, directories: dict[str, Path]) -> None:
    numbers = {number: VERSIONS[number % 3] for number in range(1, 7)}
    versioned.open([session(number, version) for number, version in numbers.items()])
    versioned.observe([DraftVerdict(number, (30 + number,), 0) for number in numbers])
    trees = versioned.propose([DraftWork(number, 5) for number in reversed(numbers)])

    for number, tree in zip(reversed(numbers), trees, strict=True):
        alone = load(directories[numbers[number]])
        alone.open([session(number)])
        alone.observe([DraftVerdict(number, (30 + number,), 0)])
        assert alone.propose([DraftWork(number, 5)]) == [tree]
    assert len(set(trees)) > 2


def test_versions_go_when_neither_wanted_nor_used(versioned: VersionedDrafter) -> None:
    versioned.open([session(1, "acme.1")])

    versioned.keep([])
    assert versioned.versions == ["acme.1"]
    versioned.close([1, 99])
    versioned.keep([])
    assert versioned.versions == []


def test_a_session_of_a_version_that_is_gone_gets_the_base(
    versioned: VersionedDrafter, directories: dict[str, Path]
) -> None:
    versioned.open([session(1, "acme.7")])
    base = load(directories[""])
    base.open([session(1)])

    assert versioned.propose([DraftWork(1, 5)]) == base.propose([DraftWork(1, 5)])
