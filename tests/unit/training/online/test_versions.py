"""Versions on disk: what is current is always whole, and rolling back keeps the history."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from engine.drafters.checkpoint import load_checkpoint
from tests.fakes_drafter import write_tiny_drafter
from tests.unit.training.online.conftest import Drafter
from training.drafter import load_drafter
from training.online.acceptance import Acceptance
from training.online.gate import Judgement
from training.online.versions import HISTORY, VersionStore, read_history

JUDGEMENT = Judgement(True, "as good", Acceptance(0.5, 1.8, 300), Acceptance(0.6, 2.0, 300))


@pytest.fixture
def store(base: Path, tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path / "versions", base, num_kept=3)


def promote(store: VersionStore, drafter: Drafter) -> int:
    return store.promote(*drafter, JUDGEMENT, num_updates=3, num_positions=90).number


def test_a_promoted_version_is_a_drafter_directory_with_a_history(
    store: VersionStore, base: Path, drafter: Drafter
) -> None:
    with torch.no_grad():
        drafter[0].model.norm.weight.fill_(2.0)

    assert store.path(store.current) == base
    assert (promote(store, drafter), promote(store, drafter)) == (1, 2)

    assert load_checkpoint(store.path(2)).manifest == load_checkpoint(base).manifest
    assert load_drafter(store.path(2))[1] == drafter[1]
    assert load_drafter(store.path(2))[0].model.norm.weight.unique().tolist() == [2.0]
    history = read_history(store.path(2).parent)
    assert history is not None and history.current == 2
    first, second = history.versions
    assert (first.parent, second.parent, second.num_updates, second.num_positions) == (0, 1, 3, 90)
    assert (second.agreement, second.parent_agreement, second.num_held_out_tokens) == (0.6, 0.5, 300)


def test_the_history_survives_a_restart(store: VersionStore, base: Path, drafter: Drafter) -> None:
    promote(store, drafter)

    again = VersionStore(store.path(1).parent, base, num_kept=3)

    assert again.history == store.history
    assert promote(again, drafter) == 2


@pytest.mark.parametrize("killed", ["while writing", "before the rename", "before the history"])
def test_a_kill_leaves_the_last_whole_version(
    store: VersionStore, base: Path, drafter: Drafter, killed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    promote(store, drafter)
    with monkeypatch.context() as patch:
        if killed == "while writing":
            patch.setattr("training.drafter.save_file", die)
        elif killed == "before the rename":
            patch.setattr(Path, "rename", die)
        else:
            patch.setattr(Path, "replace", die)
        with pytest.raises(Killed):
            promote(store, drafter)

    again = VersionStore(store.path(1).parent, base, num_kept=3)

    assert again.current == 1
    assert [path.name for path in sorted(again.path(1).parent.iterdir()) if path.is_dir()] == ["1"]
    assert promote(again, drafter) == 2
    assert load_checkpoint(again.path(2))


def test_rolling_back_keeps_the_history_and_numbers_are_not_used_again(store: VersionStore, drafter: Drafter) -> None:
    for _ in range(3):
        promote(store, drafter)

    store.roll_back(1)

    assert store.current == 1
    assert [version.is_rolled_back for version in store.history.versions] == [False, True, True]
    assert promote(store, drafter) == 4
    assert store.history.versions[-1].parent == 1
    store.roll_back(0)
    assert store.current == 0


@pytest.mark.parametrize("number", [-1, 2, 7])
def test_only_earlier_versions_can_be_rolled_back_to(store: VersionStore, drafter: Drafter, number: int) -> None:
    for _ in range(2):
        promote(store, drafter)

    with pytest.raises(ValueError, match=rf"version {number} is not before the current one, 2; earlier ones: 0, 1"):
        store.roll_back(number)


def test_the_weights_of_old_versions_are_deleted(store: VersionStore, drafter: Drafter) -> None:
    for _ in range(5):
        promote(store, drafter)

    assert [store.path(number).is_dir() for number in range(1, 6)] == [False, False, True, True, True]
    assert [version.number for version in store.history.versions] == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="earlier ones: 0, 3, 4"):
        store.roll_back(2)


def test_versions_of_another_drafter_are_refused(store: VersionStore, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_tiny_drafter(other, seed=9)

    with pytest.raises(ValueError, match="versions of another drafter"):
        VersionStore(store.path(1).parent, other, num_kept=3)


def test_a_history_that_cannot_be_read_says_so(store: VersionStore, base: Path) -> None:
    path = store.path(1).parent / HISTORY
    path.write_text(json.dumps({"current": 1}))

    with pytest.raises(ValueError, match=r"versions\.json: cannot be read"):
        VersionStore(path.parent, base, num_kept=3)
