"""Show at one look how a running cluster is: its replicas, languages, tenants, and what is missing.

    polydraft status [--json]

Exit status 1 if something that the configuration names cannot be reached. It asks the cluster's Ray, so whoever may
reach that may look; callers' keys are of no use here.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict

from polydraft.commands.common import UsageError
from polydraft.commands.operators import add_cluster_flags, let_ray_find_its_token

NAME = "status"
HELP = "show how a running cluster is"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="everything that replicas report, for programs")
    add_cluster_flags(parser)


def run(args: argparse.Namespace) -> int:
    let_ray_find_its_token()
    from cluster.errors import ConfigError
    from cluster.overview import described
    from cluster.status import missing
    from deployments.operate import watched

    try:
        with watched(args.cluster, args.ray) as look:
            replicas = look()
    except ConfigError as error:
        raise UsageError(str(error)) from None
    problems = missing(replicas)
    if args.json:
        print(json.dumps({"missing": problems, "replicas": [asdict(replica) for replica in replicas]}))
    else:
        print(described(args.cluster, replicas, time.time()))
    return 1 if problems else 0
