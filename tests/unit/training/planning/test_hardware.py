"""Figures, where they are from, and what replaces them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from training.planning.hardware import NAMED, Runner, named_hardware, read_hardware


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_figure_of_a_named_machine_says_where_it_is_from(name: str) -> None:
    sourced = named_hardware(name)

    figures = {f"{owner}.{key}" for owner in ("target", "drafter") for key in Runner.model_fields}
    assert figures - sourced.sources.keys() == {"target.overlaps", "drafter.overlaps"}
    assert sourced.hardware.drafter.layer_fixed_us > sourced.hardware.target.layer_fixed_us > 0


def test_replaced_figures_are_given() -> None:
    sourced = named_hardware("h100").with_figures({"drafter.layer_fixed_us": 9.0, "round_fixed_us": 4.0}, "given")

    assert (sourced.hardware.drafter.layer_fixed_us, sourced.hardware.round_fixed_us) == (9.0, 4.0)
    assert sourced.sources["drafter.layer_fixed_us"] == sourced.sources["round_fixed_us"] == "given"
    assert sourced.hardware.target == named_hardware("h100").hardware.target


def test_a_written_machine_is_read_again(tmp_path: Path) -> None:
    hardware = named_hardware("l4").hardware
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(hardware.model_dump()))

    assert read_hardware(file).hardware == hardware


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x", "target is"),
        ("- 1", "the whole is"),
        ("a: [", "not YAML"),
    ],
)
def test_what_is_no_machine_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)

    with pytest.raises(ValueError, match=message):
        read_hardware(file)


def test_a_figure_that_cannot_be_is_named() -> None:
    with pytest.raises(ValueError, match=r"target\.bandwidth_gb_s is 0\.0"):
        named_hardware("h100").with_figures({"target.bandwidth_gb_s": 0.0}, "given")
