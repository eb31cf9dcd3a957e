"""A work directory says what it was made from, and takes nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from training import provenance

FACTS = {"target": "aaaa", "data": {"it.jsonl": "1111"}}


def test_each_run_is_noted(tmp_path: Path) -> None:
    provenance.stamp(tmp_path, FACTS, {"minutes": 1.0})
    provenance.stamp(tmp_path, FACTS, {"minutes": 2.0})

    found = provenance.read(tmp_path)
    assert found["made_from"] == FACTS
    assert [run["settings"]["minutes"] for run in found["runs"]] == [1.0, 2.0]
    assert found["runs"][0]["versions"].keys() >= {"python", "torch", "transformers", "tokenizers"}
    assert found["runs"][0]["argv"]


def test_something_else_is_refused_by_name(tmp_path: Path) -> None:
    provenance.stamp(tmp_path, FACTS, {})

    with pytest.raises(ValueError, match=r"made from something else: target was aaaa, is bbbb; give another `work`"):
        provenance.stamp(tmp_path, FACTS | {"target": "bbbb"}, {})
    assert len(provenance.read(tmp_path)["runs"]) == 1


def test_of_several_processes_one_writes_and_all_compare(tmp_path: Path) -> None:
    provenance.stamp(tmp_path, FACTS, {}, is_writer=False)
    assert not (tmp_path / provenance.FILE).exists()
    provenance.stamp(tmp_path, FACTS, {})

    with pytest.raises(ValueError, match="target was aaaa, is bbbb"):
        provenance.stamp(tmp_path, {"target": "bbbb"}, {}, is_writer=False)
