"""A stage that is killed with SIGKILL at any moment and run again loses nothing and repeats nothing."""

from __future__ import annotations

import json
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
import yaml
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from polydraft.commands.train import run as train
from tests.conftest import ROOT
from training.checkpoints import read_weights
from training.demo_family.tokenizer import export_tokenizer
from training.files import read_lines

NUM_KILLS = 2


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random, and slow enough that a kill comes in the middle."""
    directory = tmp_path_factory.mktemp("target")
    tokenizer = Tokenizer.from_file(str(ROOT / "models" / "target" / "tokenizer.json"))
    export_tokenizer(tokenizer, directory)
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.fixture(autouse=True)
def same_threads_after() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


def write_recipe(root: Path, target: Path) -> Path:
    root.mkdir()
    rows = ({"prompt": f"Wort {n} von {n * n}", "answer": f"word {n} of {n * n}"} for n in range(400))
    (root / "de.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    training = {"steps": 60, "tokens_per_batch": 400, "checkpoint_every_s": 0.1}
    recipe = {
        "target": str(target),
        "work": "work",
        "output": "drafters",
        "languages": {"de": {"data": [{"path": "de.jsonl", "answer": "{answer}"}]}},
        "drafter": {"hidden_size": 32, "intermediate_size": 32, "heads": 2, "kv_heads": 1, "head_dim": 16},
        "pretrain": training,
        "distil": {"max_new_tokens": 24, "rows_per_batch": 8},
        "trim": {"rows": 400},
        "finetune": training,
    }
    path = root / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def start(stage: str, recipe: Path) -> subprocess.Popen[bytes]:
    program = "import sys; from polydraft.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "train", stage, str(recipe)]
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
    assert train([stage, str(recipe)]) == 0
    return hits


def test_killed_stages_end_as_unbroken_ones(target: Path, tmp_path: Path) -> None:
    rng = random.Random(8)
    whole, broken = write_recipe(tmp_path / "whole", target), write_recipe(tmp_path / "broken", target)
    progress = {
        "pretrain": "pretrain/checkpoint.pt",
        "distil": "distil/de/de.0.jsonl",
        "finetune": "finetune/de/checkpoint.pt",
    }
    hits = {}
    for stage in ("pretrain", "distil", "trim", "finetune"):
        assert train([stage, str(whole)]) == 0
        if stage == "trim":
            assert train([stage, str(broken)]) == 0
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
