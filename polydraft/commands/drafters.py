"""Show or roll back the versions that a running cluster's drafters have learned.

    polydraft drafters status de
    polydraft drafters rollback de --tenant acme [--to 2]

A rollback makes an earlier version current, 0 being the drafter as configured. Requests get it within a second or two.
"""

from __future__ import annotations

import argparse

from polydraft.commands.common import UsageError
from polydraft.commands.operators import add_cluster_flags, let_ray_find_its_token

NAME = "drafters"
HELP = "show or roll back the versions that drafters have learned"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["status", "rollback"])
    parser.add_argument("name", metavar="NAME", help="of the drafter")
    parser.add_argument("--tenant", help="whose versions; needed for a rollback")
    parser.add_argument("--to", type=int, metavar="N", help="version to go back to; the one before by default")
    add_cluster_flags(parser)


def run(args: argparse.Namespace) -> int:
    if args.action == "rollback" and args.tenant is None:
        raise UsageError("rollback: give --tenant, whose versions are meant")
    if args.action == "status" and args.to is not None:
        raise UsageError("status: --to belongs to rollback")
    let_ray_find_its_token()
    from cluster.errors import ConfigError
    from deployments import operate

    try:
        if args.action == "rollback":
            number = operate.roll_back(args.cluster, args.name, args.tenant, args.to, args.ray)
            print(f"{args.name}: tenant {args.tenant} has version {number}")
            return 0
        by_tenant = operate.status(args.cluster, args.name, args.ray)
    except ConfigError as error:
        raise UsageError(str(error)) from None
    if args.tenant is not None and args.tenant not in by_tenant:
        raise UsageError(f"tenant {args.tenant!r} does not adapt {args.name}; those that do: {', '.join(by_tenant)}")
    for tenant, described in by_tenant.items():
        if args.tenant in (None, tenant):
            print(f"{args.name}: tenant {tenant} has {described}")
    return 0
