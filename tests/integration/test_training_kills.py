"""A stage that is killed with SIGKILL at any moment and run again loses nothing and repeats nothing."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from polydraft.commands.train import run as train
from tests.conftest import ROOT
from tests.tiny_recipe import write_corpus, write_recipe, write_target
from training.checkpoints import read_weights
from training.files import read_lines

NUM_KILLS = 2


@pytest.fixture(autouse=True)
def same_threads_after() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


def write_slow_recipe(root: Path, target: Path) -> Path:
    """Its stages take long enough for a kill to come in their middle."""
    root.mkdir()
    training = {"steps": 60, "tokens_per_batch": 400, "checkpoint_every_s": 0.1}
    distil = {"max_new_tokens": 80, "rows_per_batch": 4}
    return write_recipe(root, target, pretrain=training, finetune=training, distil=distil)


def start(stage: str, recipe: Path) -> subprocess.Popen[bytes]:
    program = "import sys; from polydraft.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "train", stage, str(recipe), "--language", "de"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run_with_kills(stage: str, recipe: Path, progress: Path, rng: random.Random) -> int:
    """Run to the end, killed soon after `progress` grew; how many kills hit."""
    hits = 0
    for _ in range(NUM_KILLS):
        before = progress.stat().st_mtime_ns if progress.exists() else 0
        process = start(stage, recipe)
        while process.poll() is None and (progress.stat().st_mtime_ns if progress.exists() else 0) == before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.5))
        hits += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert train([stage, str(recipe), "--language", "de"]) == 0
    return hits


def test_killed_stages_end_as_unbroken_ones(tmp_path: Path) -> None:
    rng = random.Random(8)
    for place in ("corpus", "target"):
        (tmp_path / place).mkdir()
    target = write_target(tmp_path / "target", write_corpus(tmp_path / "corpus"))
    whole, broken = (write_slow_recipe(tmp_path / name, target) for name in ("whole", "broken"))
    progress = {
        "pretrain": "pretrain/checkpoint.pt",
        "distil": "distil/de/de.0.jsonl",
        "finetune": "finetune/de/checkpoint.pt",
    }
    hits = {}
    for stage in ("pretrain", "distil", "trim", "finetune"):
        assert train([stage, str(whole), "--language", "de"]) == 0
        if stage == "trim":
            assert train([stage, str(broken), "--language", "de"]) == 0
        else:
            hits[stage] = run_with_kills(stage, broken, broken.parent / "work" / progress[stage], rng)

    assert all(hits.values()), f"no kill came before the end: {hits}"
    records = [[*read_lines(recipe.parent / "work" / progress["distil"])] for recipe in (whole, broken)]
    ids = [Counter(record["id"] for record in of_run) for of_run in records]
    assert ids[0] == ids[1]
    assert set(ids[1].values()) == {1}
    for stage in ("pretrain", "finetune/de"):
        expected, found = (read_weights(recipe.parent / "work" / stage) for recipe in (whole, broken))
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-5)
        logs = [[*read_lines(r.parent / "work" / stage / "loss.jsonl")] for r in (whole, broken)]
        assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]]
        assert logs[1][-1]["loss"] == pytest.approx(logs[0][-1]["loss"], rel=1e-4)
