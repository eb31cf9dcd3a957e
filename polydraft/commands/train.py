"""Train the demo family's tokenizer, target and drafters: `polydraft train --help` names the steps."""

from __future__ import annotations

from collections.abc import Sequence

NAME = "train"
HELP = "train tokenizer, target and drafters"


def run(argv: Sequence[str]) -> int:
    from training import cli

    return cli.main(argv)
