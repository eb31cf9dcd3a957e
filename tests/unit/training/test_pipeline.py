"""A whole recipe by its commands: each stage reads what the one before it wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from engine.drafters.text.table import NGramTable, read_table_manifest
from engine.identity import target_id
from polydraft.cli import main as polydraft
from polydraft.commands.train import run as train
from tests.tiny_recipe import LANGUAGES, write_recipe
from training.checkpoints import read_weights
from training.demo_family.tokenizer import export_tokenizer, train_tokenizer
from training.drafter import EMBEDDING, load_drafter
from training.recipe import load_recipe
from training.run import Run


def run(*argv: object) -> int:
    return train([str(arg) for arg in argv])


@pytest.fixture(scope="module")
def recipe(tiny_target: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Carried out whole."""
    path = write_recipe(tmp_path_factory.mktemp("recipe"), tiny_target)
    assert run("all", path) == 0
    return path


def test_drafters_are_bound_to_the_target(recipe: Path, tiny_target: Path) -> None:
    for language in LANGUAGES:
        directory = recipe.parent / "drafters" / language
        about = json.loads((directory / "drafter.json").read_text())
        model, vocabulary = load_drafter(directory)

        assert (about["language"], about["target_id"]) == (language, target_id(tiny_target))
        assert vocabulary.token_ids[0] == 1, "EOS comes first"
        assert model.config.vocab_size == vocabulary.num_rows <= 60


def test_tables_of_what_the_target_wrote_are_built_by_a_command(
    recipe: Path, tiny_target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert polydraft(["build", "ngram", str(recipe), "--output", str(tmp_path), "--min-texts", "1"]) == 0

    assert polydraft(["build", "ngram", str(recipe), "--output", str(tmp_path / "all"), "--together"]) == 0
    told = capsys.readouterr().out
    folders = [tmp_path / "all", *(tmp_path / language for language in LANGUAGES)]
    together, *apart = [read_table_manifest(folder).num_texts for folder in folders]
    assert together == sum(apart)
    for language in LANGUAGES:
        table = NGramTable(tmp_path / language, Run(load_recipe(recipe)).vocab_size)
        assert table.manifest.target_id == target_id(tiny_target)
        assert f"{tmp_path / language}: {table.manifest.num_ngrams:,} n-grams of" in told
        records, _ = Run(load_recipe(recipe), [language]).records(language)
        first = next(record.answer_ids for record in records if len(record.answer_ids) > 3)
        assert first[3] in dict(table.following(tuple(first[:3])))


def test_the_report_crosses_drafters_with_languages(recipe: Path) -> None:
    report = json.loads((recipe.parent / "work" / "evaluation.json").read_text())

    assert set(report["drafters"]) == set(LANGUAGES)
    for row in report["drafters"].values():
        assert set(row) == set(LANGUAGES)
        for cell in row.values():
            assert cell["ci95"][0] <= cell["tokens_per_round"] <= cell["ci95"][1]


def test_every_stage_says_what_it_was_made_from(recipe: Path, tiny_target: Path) -> None:
    work = recipe.parent / "work"
    stages = [work / "pretrain", work / "distil" / "de", work / "finetune" / "de", recipe.parent / "drafters" / "de"]
    told = [json.loads((stage / "provenance.json").read_text()) for stage in stages]

    assert {len(found["runs"]) for found in told} == {1}
    assert all(found["made_from"]["tokenizer"] for found in told)
    assert {found["made_from"]["target"] for found in told[1:]} == {target_id(tiny_target)}
    assert all(len(digest) == 16 for digest in told[1]["made_from"]["data"].values())


def test_a_finished_recipe_is_left_alone(recipe: Path) -> None:
    work = recipe.parent / "work"
    kept = {path: path.read_bytes() for path in work.rglob("*") if path.suffix in (".pt", ".jsonl")}

    assert run("all", recipe) == 0

    assert {path: path.read_bytes() for path in kept} == kept


def test_nothing_is_trained_on_what_is_held_out(recipe: Path) -> None:
    records, held_out = Run(load_recipe(recipe)).records("de")

    assert held_out
    assert not {record.id for record in records} & {record.id for record in held_out}
    assert len(records) + len(held_out) == 120


def test_texts_to_judge_by_take_the_place_of_held_out_ones(tiny_target: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, tiny_target)
    content = yaml.safe_load(path.read_text())
    (tmp_path / "test.jsonl").write_text('{"source": "Das Rad steht im Hof."}\n{"source": "Der Hof steht."}\n')
    content["languages"]["de"]["held_out"] = [{"path": "test.jsonl", "prompt": "{source}"}]
    path.write_text(yaml.safe_dump(content))

    assert train(["distil", str(path), "--language", "de"]) == 0

    records, judging = Run(load_recipe(path)).records("de")
    assert sorted(record.id for record in judging) == ["held-out.0.1", "held-out.0.2"]
    assert {record.temperature for record in judging} == {0.0}
    assert 100 < len(records) < 120, "a few of the others are held out as ever"


@pytest.mark.parametrize(
    ("finetuning", "start_is_kept"),
    [
        ({"steps": 0}, True),
        ({"steps": 0, "start_from": "nothing"}, False),
    ],
)
def test_a_drafter_starts_from_pretraining_or_from_nothing(
    finetuning: dict[str, Any], start_is_kept: bool, recipe: Path, tiny_target: Path, tmp_path: Path
) -> None:
    shutil.copytree(recipe.parent / "work", tmp_path / "work", ignore=shutil.ignore_patterns("finetune"))
    path = write_recipe(tmp_path, tiny_target, finetune=finetuning)

    assert run("finetune", path, "--language", "de") == 0

    layer = "model.layers.0.mlp.up_proj.weight"
    pretrained, found = (read_weights(tmp_path / "work" / place)[layer] for place in ("pretrain", "finetune/de"))
    assert torch.equal(pretrained, found) == start_is_kept


def test_a_drafter_of_another_language_is_a_start(recipe: Path, tiny_target: Path, tmp_path: Path) -> None:
    shutil.copytree(recipe.parent / "work", tmp_path / "work", ignore=shutil.ignore_patterns("finetune"))
    start = recipe.parent / "drafters" / "fr"
    finetuning = {"steps": 0, "start_from": "drafter", "drafter": str(start)}
    path = write_recipe(tmp_path, tiny_target, finetune=finetuning)

    assert train(["finetune", str(path), "--language", "de"]) == 0

    french, known = load_drafter(start)
    german, wanted = Run(load_recipe(path)).finetuned("de")
    french_RD, german_RD = french.state_dict()[EMBEDDING], german.state_dict()[EMBEDDING]
    new = set(wanted.token_ids) - set(known.token_ids)
    assert new
    for row, token in enumerate(wanted.token_ids):
        before_D = french_RD[known.row_of_id.get(token, known.unknown_row)]
        assert torch.equal(german_RD[row], before_D) == (token not in new), (
            "new tokens begin where the target puts them"
        )


def test_on_policy_batches_change_the_drafter(recipe: Path, tiny_target: Path, tmp_path: Path) -> None:
    shutil.copytree(recipe.parent / "work", tmp_path / "work", ignore=shutil.ignore_patterns("finetune"))
    finetuning = {"steps": 4, "tokens_per_batch": 300, "on_policy": 1.0, "divergence": "total_variation"}
    path = write_recipe(tmp_path, tiny_target, finetune=finetuning)

    assert run("finetune", path, "--language", "de") == 0

    first, other = (read_weights(root / "work" / "finetune" / "de") for root in (tmp_path, recipe.parent))
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert all(tensor.isfinite().all() for tensor in first.values())


def test_a_target_with_another_tokenizer_is_refused_with_the_remedy(
    recipe: Path, tiny_corpus: Path, tiny_target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = shutil.copytree(tiny_target, tmp_path / "target")
    export_tokenizer(train_tokenizer(tiny_corpus, vocab_size=350), target)
    shutil.copytree(recipe.parent / "work", tmp_path / "work")
    path = write_recipe(tmp_path, target)

    for stage in ("pretrain", "distil", "finetune"):
        assert run(stage, path, "--language", "de") == 1
        told = capsys.readouterr().err
        assert told.startswith(f"polydraft train {stage}: ")
        assert "give another `work`" in told or "use another `work`" in told


def test_a_start_of_another_family_is_refused(
    tiny_corpus: Path, tiny_target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = shutil.copytree(tiny_target, tmp_path / "start")
    pretraining = {"steps": 1, "start_from": "start"}
    path = write_recipe(tmp_path, tiny_target, pretrain=pretraining)

    assert run("pretrain", path) == 1
    assert "do not fit; correct `drafter`" in capsys.readouterr().err

    export_tokenizer(train_tokenizer(tiny_corpus, vocab_size=350), start)
    assert run("pretrain", path) == 1
    assert "start from a model of the target's family, or leave start_from out" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["pretrain", "distil"])
def test_mended_data_goes_on_in_the_same_place(
    stage: str, tiny_target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_recipe(tmp_path, tiny_target)
    whole = (tmp_path / "de.jsonl").read_text()
    (tmp_path / "de.jsonl").write_text(whole + "broken\n")

    assert train([stage, str(path)]) == 1
    assert "1 of 121 lines are broken (line 121: not JSON" in capsys.readouterr().err
    (tmp_path / "de.jsonl").write_text(whole)
    assert train([stage, str(path)]) == 0


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ("trim", "no answers; run the stage distil first"),
        ("finetune", "run the stage trim first"),
        ("export", "no checkpoint"),
    ],
)
def test_a_stage_out_of_turn_says_what_is_missing(
    stage: str, told: str, tiny_target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(stage, write_recipe(tmp_path, tiny_target)) == 1
    assert told in capsys.readouterr().err


def test_an_unknown_language_is_told(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trim", recipe, "--language", "it") == 1
    assert "the recipe has no language it; it has de, fr" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["finetune"], ["distil", "r.yaml", "--worker", "x"]])
def test_wrong_usage_exits_with_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        train(argv)
    assert stopped.value.code == 2
