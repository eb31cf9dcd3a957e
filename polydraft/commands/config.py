"""Show the configuration that a file and its overrides resolve to, defaults filled in."""

from __future__ import annotations

import argparse
from pathlib import Path

from polydraft.commands.common import UsageError, print_json
from polydraft.commands.serve import add_overrides_flag

NAME = "config"
HELP = "show the resolved configuration"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["show"])
    parser.add_argument("config", type=Path, metavar="CONFIG", help="such as configs/local.yaml")
    add_overrides_flag(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of YAML")


def run(args: argparse.Namespace) -> int:
    import yaml

    from cluster import config_file
    from cluster.errors import ConfigError

    try:
        resolved = config_file.load(args.config, args.overrides).model_dump(mode="json")
    except ConfigError as error:
        raise UsageError(str(error)) from None
    if args.json:
        print_json(resolved)
    else:
        print(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True), end="")
    return 0
