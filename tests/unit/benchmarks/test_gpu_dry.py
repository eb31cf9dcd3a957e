"""The GPU benchmark at toy sizes on the CPU: every section runs, and it needs few packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.__main__ import SECTIONS, main
from benchmarks.gpu.figures import Figure, markdown, truth
from benchmarks.gpu.languages import EOS, FIRST_PIVOT, FIRST_SOURCE, NUM_WORDS, SEPARATOR, Languages, prompt_of
from tests.conftest import ROOT

NOT_NEEDED = ("ray", "pydantic", "grpc", "google.protobuf", "fastapi", "aiohttp")
CPU = torch.device("cpu")


def test_every_section_runs_at_toy_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYDRAFT_COMMIT", "abc123")

    status = main(["--dry", "--output", str(tmp_path / "out" / "gpu")])

    record = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert status == 0, record["failures"]
    assert record["commit"] == "abc123"
    assert record["seconds"].keys() == SECTIONS.keys()
    correct = [figure for figure in record["figures"] if figure["section"] == "Correctness"]
    assert len(correct) > 8
    assert all(figure["holds"] for figure in correct)
    same = [figure for figure in record["figures"] if "same answers" in figure["name"] and figure["bound"]]
    assert len(same) == 4
    assert all(figure["holds"] for figure in same)
    speeds = [figure for figure in record["figures"] if figure["unit"] == "tokens/s"]
    assert {figure["name"].split(",")[0] for figure in speeds} == {"ours", "transformers"}
    assert "## End to end" in (tmp_path / "out" / "gpu.md").read_text()


def test_imports_need_few_packages() -> None:
    program = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if any(name == one or name.startswith(one + ".") for one in {NOT_NEEDED!r}):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import benchmarks.gpu.__main__
"""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])

    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr


def test_a_section_that_fails_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(sizes: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(SECTIONS, "correctness", fail)

    assert main(["--dry", "--sections", "correctness", "step", "--output", str(tmp_path / "gpu")]) == 1
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert "no such kernel" in record["failures"]["correctness"]
    assert {figure["section"] for figure in record["figures"]} == {"Step"}


def test_a_bound_is_judged() -> None:
    assert not Figure("a", "b", 0.7, "", bound=0.8).holds
    assert not Figure("a", "b", float("nan"), "", bound=0.8).holds
    assert truth("a", "b", True).holds
    assert "MISSED: at least 0.8" in markdown([Figure("a", "b", 0.7, "", bound=0.8)])


def test_an_answer_is_its_source_word_by_word() -> None:
    texts_BT = Languages(CPU).draw(5, num_words=9)
    again_BT = Languages(CPU).draw(5, num_words=9)

    assert torch.equal(texts_BT, again_BT)
    assert texts_BT.shape == (5, 21)
    assert (texts_BT[:, 10] == SEPARATOR).all()
    assert (texts_BT[:, -1] == EOS).all()
    assert prompt_of(texts_BT[0])[-1] == SEPARATOR
    source_BN, answer_BN = texts_BT[:, 1:10], texts_BT[:, 11:20]
    assert bool((source_BN >= FIRST_SOURCE).all())
    assert bool(((answer_BN >= FIRST_PIVOT) & (answer_BN < FIRST_PIVOT + NUM_WORDS)).all())
    meanings: dict[int, set[int]] = {}
    for word, meaning in zip(source_BN.flatten().tolist(), answer_BN.flatten().tolist(), strict=True):
        meanings.setdefault(word, set()).add(meaning)
    assert max(map(len, meanings.values())) <= 2
