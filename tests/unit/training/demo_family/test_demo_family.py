"""The demo family's own steps on a tiny corpus, with the recipe's stages between them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from polydraft.commands.train import run as train
from tests.conftest import ROOT
from training.demo_family.__main__ import main
from training.demo_family.card import smooth
from training.demo_family.corpus import LANGUAGES, everyday_pairs
from training.files import read_lines


def step(monkeypatch: pytest.MonkeyPatch, *argv: object) -> int:
    monkeypatch.setattr(sys, "argv", ["training.demo_family", *map(str, argv)])
    return main()


@pytest.fixture
def tiny_recipe(tiny_target: Path, tmp_path: Path) -> Path:
    """The shipped recipe with a tiny target and few steps."""
    recipe = yaml.safe_load((ROOT / "configs" / "train" / "demo.yaml").read_text())
    budget = {"steps": 2, "tokens_per_batch": 300}
    recipe |= {"target": str(tiny_target), "work": "work", "output": "models/drafters", "finetune": budget}
    recipe["drafter"] = {"hidden_size": 32, "intermediate_size": 32, "heads": 2, "kv_heads": 1, "head_dim": 16}
    recipe["pretrain"] = {**budget, "data": [{"path": "data/de.everyday.jsonl", "answer": "{answer}"}]}
    recipe["distil"] |= {"max_new_tokens": 6, "prompts": 200}
    recipe["evaluate"] = {"records": 1}
    recipe["languages"] = {
        code: {
            "data": [{"path": f"data/{code}.jsonl"}],
            "held_out": [{"path": f"data/{code}.test.jsonl"}],
            "rows": 60,
        }
        for code in LANGUAGES
    }
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_the_card_names_data_and_figures(
    tiny_corpus: Path, tiny_target: Path, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("--corpus", tiny_corpus)
    target_run = tmp_path / "target"
    assert step(monkeypatch, "data", *common, "--prompts", 200, "--output", tmp_path / "data") == 0
    assert train(["all", str(tiny_recipe)]) == 0
    quality = tmp_path / "quality.json"
    about_target = ("--target", tiny_target)
    assert step(monkeypatch, "quality", *common, *about_target, "--pairs", 3, "--output", quality) == 0
    target_run.mkdir()
    lines = ({"step": s, "tokens": 9 * s, "spent_s": s, "loss": 5 / s} for s in (20, 40))
    (target_run / "loss.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    places = (
        "--target-runs",
        target_run,
        "--models",
        tmp_path / "models",
        "--picture",
        tmp_path / "images" / "loss.png",
    )

    assert step(monkeypatch, "card", "--quality", quality, "--recipe", tiny_recipe, *places) == 0

    card = (tmp_path / "models" / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "images" / "loss.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((tmp_path / "work" / "evaluation.json").read_text())
    own = [f"**{report['drafters'][code][code]['tokens_per_round']:.2f} (" for code in LANGUAGES]
    sources = ["CC-BY 2.0 FR", "were written by its", "CC-BY 4.0", "MIT", "OpenCC", "Apache 2.0"]
    for needed in (*own, *sources, "../images/loss.png", "chrF", "20261123", "70% at 0"):
        assert needed in card, needed


def test_data_holds_packs_of_both_kinds(tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert step(monkeypatch, "data", "--corpus", tiny_corpus, "--prompts", 40, "--output", tmp_path) == 0

    rows = [*read_lines(tmp_path / "de.jsonl")]
    assert len(rows) == 40
    assert [*read_lines(tmp_path / "de.everyday.jsonl")] == rows[:20]
    assert {row["prompt"].count("Hof.") for row in rows} == {1, 2, 3, 4}
    english = {pair.english for pair in everyday_pairs(tiny_corpus, "train")["de"]}
    for row in rows:
        assert row["prompt"].startswith("Translate German to English: ")
        assert row["prompt"].count("Hof.") == row["answer"].count("The car")
        assert {f"The car{part}".strip() for part in row["answer"].split("The car")[1:]} <= english


def test_missing_corpus_is_an_error_without_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert step(monkeypatch, "tokenizer", "--corpus", tmp_path / "nowhere", "--output", tmp_path) == 1
    assert "nowhere" in capsys.readouterr().err


def test_smoothing_has_no_start_up_bias() -> None:
    assert smooth([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])
    assert smooth([0.0, 1.0], weight=0.5) == pytest.approx([0.0, 2 / 3])
