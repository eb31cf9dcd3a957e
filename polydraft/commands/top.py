"""Watch a running cluster: tokens a second, acceptance and queues by tier, language and tenant.

    polydraft top [--interval 2] [--once]

Each picture shows what happened since the one before. It asks the cluster's Ray, as `polydraft status` does.
"""

from __future__ import annotations

import argparse
import sys
import time

from polydraft.commands.common import UsageError
from polydraft.commands.operators import add_cluster_flags, let_ray_find_its_token

NAME = "top"
HELP = "watch a running cluster"
_CLEAR = "\x1b[H\x1b[J"
_LEAST_S = 1.0
"""Replicas report once a second."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--interval", type=float, default=2.0, metavar="S", help="seconds between two pictures")
    parser.add_argument("--once", action="store_true", help="one picture, after one interval")
    add_cluster_flags(parser)


def run(args: argparse.Namespace) -> int:
    if not _LEAST_S <= args.interval <= 3_600:
        raise UsageError(f"--interval: found {args.interval:g}; give {_LEAST_S:g} to 3600 seconds")
    let_ray_find_its_token()
    from cluster.errors import ConfigError
    from cluster.live_figures import live_figures
    from cluster.live_view import picture
    from cluster.status import rates
    from deployments.operate import watched

    clear = _CLEAR if sys.stdout.isatty() and not args.once else ""
    try:
        with watched(args.cluster, args.ray) as look:
            before = look()
            while True:
                time.sleep(args.interval)
                after = look()
                print(f"{clear}{picture(args.cluster, live_figures(rates(before, after)))}", flush=True)
                if args.once:
                    return 0
                if not clear:
                    print()
                before = after
    except ConfigError as error:
        raise UsageError(str(error)) from None
