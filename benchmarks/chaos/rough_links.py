"""Spoil, cut and mend the links between a router and its replicas while it answers, and compare every answer.

    python -m benchmarks.chaos.rough_links [--faults 4] [--requests 300] [--seed 7] [--output runs/rough_links]

A router, two targets and the drafters without Ray, each end of a link in a network namespace of its own: Linux and
root. Questions are asked as in `benchmarks.chaos`, and the table reads alike. Exit status 1 if an answer was not whole
and the same, 2 if this machine cannot make links.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from benchmarks.chaos.comparison import add_arguments, compare, conclude
from benchmarks.chaos.faults import PATIENCE_S, QUIET_S, Event
from benchmarks.chaos.linked_cluster import LinkedCluster, linked_cluster
from benchmarks.chaos.links import CLEAN, CUT, Conditions, LinksUnavailable
from benchmarks.chaos.traffic import Traffic
from cluster.config_file import load


@dataclass(frozen=True, slots=True)
class LinkFault:
    """What happens to one link, for how long."""

    name: str
    conditions: Conditions
    length_s: float


FAULTS = (
    LinkFault("lossy", Conditions(loss=0.05, reorder=0.05), 8.0),
    LinkFault("corrupting", Conditions(corrupt=0.05, duplicate=0.05), 8.0),
    LinkFault("slow", Conditions(delay_s=0.05, jitter_s=0.05, bytes_per_s=50_000), 8.0),
    LinkFault("cut for 2 s", CUT, 2.0),  # shorter than a lease
    LinkFault("cut for 8 s", CUT, 8.0),
)


def behind_links(drafters: Sequence[str]) -> list[list[str]]:
    """A target and half of the drafters behind each of two links."""
    return [[f"target-{half + 1}", *(f"drafter-{name}" for name in drafters[half::2])] for half in range(2)]


async def run(args: argparse.Namespace) -> tuple[Traffic, list[Event]]:
    """The traffic and the faults."""
    config = load(args.config, args.set)
    chosen = random.Random(args.seed)
    faults = list(FAULTS) * args.faults
    chosen.shuffle(faults)
    behind = behind_links(list(config.tier_drafters))
    async with linked_cluster(args.config, args.set, behind, args.seed) as cluster:
        return await compare(args, cluster.address, _carry_out(faults, cluster, chosen), len(faults))


async def _carry_out(
    faults: Sequence[LinkFault], cluster: LinkedCluster, chosen: random.Random
) -> AsyncIterator[Event]:
    """Each fault in turn, on a link of the seed's choice."""
    for fault in faults:
        link = chosen.choice(cluster.links)
        at_s = time.monotonic()
        link.conditions = fault.conditions
        await asyncio.sleep(fault.length_s)
        link.conditions = CLEAN
        yield Event(f"link, {fault.name}", at_s, await _wait_until_whole(cluster, at_s))
        await asyncio.sleep(QUIET_S)


async def _wait_until_whole(cluster: LinkedCluster, at_s: float) -> float | None:
    try:
        await asyncio.wait_for(cluster.until_whole(), PATIENCE_S)
    except TimeoutError:
        return None
    return time.monotonic() - at_s


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, output="runs/rough_links")
    parser.add_argument("--faults", type=int, default=4, help="of each kind")
    args = parser.parse_args(arguments)
    try:
        return conclude(args.output, *asyncio.run(run(args)))
    except LinksUnavailable as error:
        print(f"no links between network namespaces here: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
