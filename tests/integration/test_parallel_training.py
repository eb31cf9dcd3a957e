"""Two processes through Ray Train share the prompts, keep the same weights and end with one drafter."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
import torch

from deployments.processes import descendants
from polydraft.commands.train import run as train
from tests.tiny_recipe import write_corpus, write_recipe, write_target
from training.checkpoints import load_checkpoint
from training.drafter import load_drafter
from training.files import read_lines


@pytest.fixture(scope="module")
def tiny_target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus = write_corpus(tmp_path_factory.mktemp("corpus"))
    return write_target(tmp_path_factory.mktemp("target"), corpus)


def test_two_processes_carry_out_a_recipe(tiny_target: Path, tmp_path: Path) -> None:
    before = set(descendants(os.getpid()))
    recipe = write_recipe(tmp_path, tiny_target)
    num_threads = torch.get_num_threads()

    assert train(["all", str(recipe), "--language", "de", "--processes", "2"]) == 0
    torch.set_num_threads(num_threads)

    answers = [[*read_lines(path)] for path in sorted((tmp_path / "work" / "distil" / "de").glob("*.jsonl"))]
    assert [bool(of_process) for of_process in answers] == [True, True]
    ids = Counter(record["id"] for of_process in answers for record in of_process)
    assert (len(ids), set(ids.values())) == (120, {1})
    saved = load_checkpoint(tmp_path / "work" / "finetune" / "de")
    assert saved is not None
    assert (saved["state"]["step"], saved["state"]["batch"] % 2) == (4, 0), "each step takes two batches"
    assert load_drafter(tmp_path / "drafters" / "de")
    assert len(json.loads((tmp_path / "work" / "pretrain" / "provenance.json").read_text())["runs"]) == 1
    assert not [process for process in set(descendants(os.getpid())) - before if process.is_alive]


def test_what_a_stage_refuses_is_told(tiny_target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path, tiny_target)
    (tmp_path / "de.jsonl").write_text("not JSON\n")

    assert train(["pretrain", str(recipe), "--processes", "2"]) == 1
    assert "1 of 1 lines are broken (line 1: not JSON" in capsys.readouterr().err
