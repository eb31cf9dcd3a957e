"""Every cluster configuration that is shipped fits the schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.config_file import load
from tests.conftest import ROOT

ELSEWHERE = {"kuberay.yaml", "aws.yaml"}
"""Of other schemas (`test_deployment_files`)."""
OURS = [path for path in sorted((ROOT / "configs").glob("*.yaml")) if path.name not in ELSEWHERE]
CONFIGS = [*OURS, ROOT / "examples" / "add_a_language" / "serve.yaml"]


def test_the_configurations_are_there() -> None:
    assert {"local.yaml", "gpu.yaml"} <= {path.name for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_configuration_loads(path: Path) -> None:
    assert load(path)
