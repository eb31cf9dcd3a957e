"""Half a minute of the soak: what is held at saturation is given back, also what a killed router held."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

TIMEOUT_S = 600


def test_a_saturated_cluster_gives_everything_back(tmp_path: Path) -> None:
    output = tmp_path / "soak"

    # A process of its own: it finds the cluster's processes among those that it started.
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--minutes", "0.4", "--output", str(output)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    assert finished.returncode == 0, finished.stdout + finished.stderr[-3_000:]
    record = json.loads(output.with_suffix(".json").read_text())
    assert record["growth"] is None  # so short a run is all warm-up
    assert record["outcomes"]["whole"] > 0
    assert record["orphans"]["num_seen"] > 0
