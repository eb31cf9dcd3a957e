"""`polydraft train plan` from end to end, on the demo target and a named machine, where nothing is timed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from polydraft.commands.train import run as train
from tests.conftest import ROOT
from training.planning.measure import measure_this
from training.planning.shapes import DecoderShape

TARGET = ROOT / "models" / "target"
SLOW = ("--bandwidth-gb-s=20", "--layer-fixed-us=200", "--drafter-layer-fixed-us=50", "--drafter-step-fixed-us=50")
"""A machine so slow that a drafter pays for the demo target."""


def plan(*argv: object) -> int:
    return train(["plan", "--target", str(TARGET), "--hardware", "l4", *map(str, argv)])


def test_text_ends_with_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(*SLOW) == 0

    printed = capsys.readouterr().out
    _, _, found = printed.rpartition("\n\n")
    recipe = yaml.safe_load(found)
    assert set(recipe["drafter"]) == {"layers", "hidden_size", "intermediate_size", "heads", "kv_heads", "head_dim"}
    assert recipe["trim"]["rows"] <= 8192
    assert "acceptance" in printed
    assert "L4 datasheet" in printed
    assert "Train 1 layer" in printed


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(*SLOW, "--json", "--acceptance", 0.5) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["target"]["parameters"] == 13_767_552
    assert found["pays"]
    assert found["recipe"]["drafter"]["layers"] == found["choice"]["shape"]["layers"] == 1
    assert found["choice"]["acceptance"] == 0.5
    assert found["choice"]["break_even_acceptance"] < found["needed_acceptance"] < 0.5
    assert found["sources"]["target.bandwidth_gb_s"] == "given"
    assert {"name": "acceptance", "value": "0.50", "source": "given, for every shape"} in found["assumptions"]


def test_messages_of_a_tier_can_cost_more_than_drafts_bring(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(*SLOW, "--placement", "tier") == 0

    printed = capsys.readouterr().out
    assert "None pays at acceptance 0.65" in printed
    assert "most of it for handing blocks over" in printed


def test_trained_drafters_are_compared_with_their_own_acceptance(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    drafters = ROOT / "models" / "drafters"
    measured = tmp_path / "evaluation.json"
    cells = {"de": {"de": {"agreement": 0.6}, "fr": {"agreement": 0.1}}, "fr": {"fr": {"agreement": 0.4}}}
    measured.write_text(json.dumps({"drafters": cells}))

    assert plan("--measured", measured, "--drafters", drafters, "--json") == 0

    found = json.loads(capsys.readouterr().out)
    assert {one["name"]: one["acceptance"] for one in found["trained"]} == {"de": 0.6, "fr": 0.4}
    assert found["trained"][0]["shape"]["hidden_size"] == 256
    assert found["choice"]["acceptance"] == pytest.approx(0.5), "the mean of what was measured"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--acceptance", 65), "share from 0 to 1"),
        (("--wanted", 0.5), "--wanted is 0.5"),
        (("--hardware", "h900"), "'h900' is neither this, h200"),
        (("--bandwidth-gb-s", -1), "target.bandwidth_gb_s is -1.0"),
        (("--target", "/nowhere"), "/nowhere"),
    ],
)
def test_wrong_input_is_said(capsys: pytest.CaptureFixture[str], options: tuple[object, ...], message: str) -> None:
    assert plan(*options) == 1

    assert message in capsys.readouterr().err


def test_this_machine_has_all_figures() -> None:
    sourced = measure_this(DecoderShape(2, 256, 768, 4, 2, 64, 4096))  # its products outweigh their calls

    hardware = sourced.hardware
    assert hardware.target.min_rows >= 1
    assert sourced.sources["drafter.layer_fixed_us"] == "measured here"
    assert hardware.target.bandwidth_gb_s > 0
