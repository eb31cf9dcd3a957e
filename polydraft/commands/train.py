"""Plan and train drafters from a recipe: `polydraft train --help` names the stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

NAME = "train"
HELP = "plan and train drafters for a target"


def run(argv: Sequence[str]) -> int:
    from training import cli

    return cli.main(argv, _in_parallel)


def _in_parallel(recipe: Path, stages: Sequence[str], languages: Sequence[str], processes: int, address: str) -> None:
    from deployments.train import run_in_parallel

    run_in_parallel(recipe, stages, languages, processes, address or None)
