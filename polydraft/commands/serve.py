"""Start a cluster from a configuration file, and run until SIGINT or SIGTERM.

Prints one line, `ready grpc=HOST:PORT http=URL`, once requests are served.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from polydraft.commands.common import UsageError

NAME = "serve"
HELP = "start a cluster from a configuration file"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG", help="such as configs/local.yaml")
    parser.add_argument("--grpc-port", type=int, metavar="N", help="port of the router's gRPC front")
    add_overrides_flag(parser)


def add_overrides_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        dest="overrides",
        action="extend",
        nargs="+",
        default=[],
        metavar="a.b=c",
        help="change one value of the file, such as target.dtype=float32; repeatable",
    )


def run(args: argparse.Namespace) -> int:
    from cluster.errors import ConfigError
    from deployments import serve

    try:
        return serve.run(args.config, args.grpc_port, args.overrides)
    except ConfigError as error:
        raise UsageError(str(error)) from None
