"""Kill and stall the processes of a cluster while it answers, and compare every answer with the fault-free one.

    python -m benchmarks.chaos [--kills 8] [--stalls 0] [--requests 300] [--seed 7] [--kinds router target ...]
        [--set target.replicas=1] [--output runs/chaos]

Questions are asked again and again until the last fault is over, each at least once. For every kind of fault the table
tells how long it took until all processes of that kind were there again, and the longest pause that it brought to a
stream that was open. Exit status 1 if an answer was not whole and the same.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from benchmarks.chaos.comparison import add_arguments, compare, conclude
from benchmarks.chaos.faults import Event, carry_out, schedule
from benchmarks.chaos.traffic import Traffic
from benchmarks.chaos.victims import ALL_KINDS, kinds_of
from cluster.config_file import load
from polydraft.commands.child_cluster import cluster


async def run(args: argparse.Namespace) -> tuple[Traffic, list[Event]]:
    """The traffic and the faults."""
    overrides = [f"cluster.routers={args.routers}", f"target.replicas={args.targets}", *args.set]
    kinds = kinds_of(load(args.config, overrides))
    faults = schedule([kind for kind in args.kinds if kind in kinds], args.kills, args.stalls, args.seed)
    async with cluster(str(args.config), overrides) as address:
        return await compare(args, address, carry_out(faults, kinds, args.seed), len(faults))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, output="runs/chaos")
    parser.add_argument("--routers", type=int, default=2)
    parser.add_argument("--targets", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=ALL_KINDS, default=list(ALL_KINDS))
    parser.add_argument("--kills", type=int, default=8, help="of each kind")
    parser.add_argument("--stalls", type=int, default=0, help="of each kind")
    args = parser.parse_args(arguments)
    return conclude(args.output, *asyncio.run(run(args)))


if __name__ == "__main__":
    sys.exit(main())
