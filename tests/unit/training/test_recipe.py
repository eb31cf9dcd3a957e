"""The whole recipe by its commands, on a tiny corpus: each step reads what the one before it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from engine.identity import target_id
from training.card import smooth
from training.cli import main
from training.corpus import LANGUAGES
from training.drafter import load_drafter


def run(*argv: object) -> int:
    return main([str(arg) for arg in argv])


@pytest.fixture(scope="module")
def family(tiny_corpus: Path, tiny_target: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs and models of one pass through the recipe; the target's log is a stand-in of two lines."""
    root = tmp_path_factory.mktemp("family")
    num_threads = torch.get_num_threads()
    common = ("--corpus", tiny_corpus, "--target", tiny_target)
    assert run("pretrain", *common, "--work", root / "pretrain", "--minutes", 0.05, "--tokens-per-batch", 300) == 0
    assert run("distil", *common, "--work", root / "distil", "--prompts", 12, "--minutes", 5) == 0
    for language in LANGUAGES:
        shared = ("--language", language, "--target", tiny_target, "--answers", root / "distil")
        training = ("--pretrained", root / "pretrain", "--work", root / "finetune", "--minutes", 0.02)
        assert run("finetune", *shared, *training) == 0
        output = root / "models" / "drafters" / language
        assert run("export", *shared, "--work", root / "finetune", "--output", output) == 0
    report = ("--drafters", root / "models" / "drafters", "--pairs", 3, "--output", root / "evaluation.json")
    assert run("evaluate", *common, *report) == 0
    (root / "target").mkdir()
    (root / "target" / "loss.jsonl").write_text(
        "".join(json.dumps({"step": s, "tokens": 9 * s, "spent_s": s, "loss": 5 / s}) + "\n" for s in (20, 40))
    )
    torch.set_num_threads(num_threads)
    return root


def test_drafters_are_bound_to_the_target(family: Path, tiny_target: Path) -> None:
    for language in LANGUAGES:
        directory = family / "models" / "drafters" / language
        about = json.loads((directory / "drafter.json").read_text())
        model, vocabulary = load_drafter(directory)

        assert (about["language"], about["target_id"]) == (language, target_id(tiny_target))
        assert vocabulary.token_ids[0] == 1, "EOS comes first"
        assert model.config.vocab_size == vocabulary.num_rows


def test_the_report_crosses_drafters_with_languages(family: Path) -> None:
    report = json.loads((family / "evaluation.json").read_text())

    assert set(report["drafters"]) == set(LANGUAGES)
    for row in report["drafters"].values():
        assert set(row) == set(LANGUAGES)
        assert all(0 <= cell["agreement"] <= 1 <= cell["tokens_per_round"] <= 5 for cell in row.values())


def test_the_card_names_data_and_figures(family: Path) -> None:
    picture = family / "images" / "loss.png"
    runs = [f"--{name}={family / name.partition('-')[0]}" for name in ("target-runs", "pretrain-run", "finetune-run")]
    answers = family / "distil"
    arguments = ("--evaluation", family / "evaluation.json", "--answers", answers, "--models", family / "models")

    assert run("card", *runs, *arguments, "--picture", picture) == 0

    card = (family / "models" / "README.md").read_text(encoding="utf-8")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "../images/loss.png" in card
    for needed in (
        "CC-BY 2.0 FR",
        "were written by its",
        "CC-BY 4.0",
        "MIT",
        "OpenCC",
        "Apache 2.0",
        "chrF",
        "20261124",
    ):
        assert needed in card, needed
    report = json.loads((family / "evaluation.json").read_text())
    for code in LANGUAGES:
        assert f"**{report['drafters'][code][code]['tokens_per_round']:.2f} (" in card


def test_export_refuses_another_target(family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = tmp_path / "distil"
    answers.mkdir()
    (answers / "target.json").write_text('{"target_id": "of-another"}')

    code = run("export", "--language", "de", "--answers", answers, "--work", family / "finetune", "--output", tmp_path)

    assert code == 1
    assert not (tmp_path / "drafter.json").exists()
    assert capsys.readouterr().err.startswith("polydraft train export: ")


def test_missing_corpus_is_an_error_without_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tokenizer", "--corpus", tmp_path / "nowhere", "--output", tmp_path) == 1

    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["finetune"], ["distil", "--corpus", ".", "--languages", "xx"]])
def test_wrong_usage_exits_with_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2


def test_smoothing_has_no_start_up_bias() -> None:
    assert smooth([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])
    assert smooth([0.0, 1.0], weight=0.5) == pytest.approx([0.0, 2 / 3])
