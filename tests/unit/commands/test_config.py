"""`polydraft config show`, and `serve`'s answer to a wrong file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from polydraft.cli import main

LOCAL = str(Path(__file__).parents[3] / "configs" / "local.yaml")


def test_show_prints_the_resolved_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["config", "show", LOCAL, "--set", "target.replicas=2", "target.dtype=float32"])
    shown = yaml.safe_load(capsys.readouterr().out)

    assert status == 0
    assert (shown["target"]["replicas"], shown["target"]["dtype"]) == (2, "float32")


def test_show_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    main(["config", "show", LOCAL])
    as_yaml = yaml.safe_load(capsys.readouterr().out)
    main(["config", "show", LOCAL, "--json"])

    assert json.loads(capsys.readouterr().out) == as_yaml


@pytest.mark.parametrize("override", ["target.wheels=4", "target.replicas=many", "nonsense"])
def test_a_wrong_override_is_wrong_usage(override: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["config", "show", LOCAL, "--set", override])
    out, err = capsys.readouterr()

    assert (status, out) == (2, "")
    assert override.split("=")[0].split(".")[-1] in err


def test_a_missing_file_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
