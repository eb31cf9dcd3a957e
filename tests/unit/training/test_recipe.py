"""A recipe is checked whole before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROOT
from training.recipe import load_recipe

MINIMAL = """
target: target
work: ../work
output: drafters
languages: {it: {data: [{path: it.jsonl}]}}
pretrain: {steps: 5}
finetune: {minutes: 1}
"""


def recipe(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "path", [*sorted((ROOT / "configs" / "train").glob("*.yaml")), ROOT / "examples" / "add_a_language" / "recipe.yaml"]
)
def test_shipped_recipes_load(path: Path) -> None:
    assert load_recipe(path).languages


def test_paths_start_at_the_recipe_and_defaults_are_filled_in(tmp_path: Path) -> None:
    found = load_recipe(recipe(tmp_path, MINIMAL))

    assert found.target == tmp_path / "target"
    assert found.work == tmp_path.parent / "work"
    assert found.languages["it"].data[0].path == tmp_path / "it.jsonl"
    assert found.distil.temperatures == {0.0: 0.25, 0.3: 0.25, 0.7: 0.25, 1.0: 0.25}
    assert found.rows_of("it") is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("minutes: 1", "minuets: 1"), r"finetune.minuets: Extra inputs"),
        (("minutes: 1", "minutes: 1, steps: 2"), r"finetune: .*found minutes and steps; give one of"),
        (("{steps: 5}", "{}"), r"pretrain: .*found no budget; give one of"),
        (("minutes: 1", "minutes: 1, divergence: kl"), r"divergence: found 'kl'; one of forward_kl"),
        (("{path: it.jsonl}", "{}"), r"languages.it.data.0: .*either `path` or `dataset`"),
        (("it.jsonl", "it.tsv"), r"columns: missing; a TSV file has no headings"),
        (
            ("pretrain: {steps: 5}", "pretrain: {steps: 5}\ndistil: {temperatures: {0: 0.5}}"),
            r"the shares sum to 0.5; make it 1",
        ),
        (("it: {data", "Italian: {data"), r"languages.Italian"),
        (("target: target\n", ""), r"target: Field required"),
        (("pretrain: {steps: 5}\n", ""), r"no section `pretrain`; add it or start anew"),
        (("minutes: 1", "minutes: 1, start_from: drafter"), r"`drafter: DIRECTORY` go together"),
        ((MINIMAL, "a: [1"), r"not valid YAML"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(change: tuple[str, str], told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        load_recipe(recipe(tmp_path, MINIMAL.replace(*change)))


def test_a_missing_recipe_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml: no such file; give a recipe such as configs/train/demo\.yaml"):
        load_recipe(tmp_path / "none.yaml")
