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
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from benchmarks.chaos.faults import Event, carry_out, schedule
from benchmarks.chaos.report import markdown, pause_of
from benchmarks.chaos.traffic import Traffic, keep_asking, questions, references
from benchmarks.chaos.victims import ALL_KINDS, kinds_of
from benchmarks.results import tell
from cluster.config_file import load
from polydraft.commands.child_cluster import cluster


async def run(args: argparse.Namespace) -> tuple[Traffic, list[Event]]:
    """The traffic and the faults."""
    overrides = [f"cluster.routers={args.routers}", f"target.replicas={args.targets}", *args.set]
    kinds = kinds_of(load(Path(args.config), overrides))
    faults = schedule([kind for kind in args.kinds if kind in kinds], args.kills, args.stalls, args.seed)
    asked = questions(args.requests, args.seed)
    traffic, events, stop = Traffic(), list[Event](), asyncio.Event()
    async with cluster(args.config, overrides) as address:
        expected = await references(address, asked, args.streams)
        asking = asyncio.create_task(keep_asking(address, asked, expected, args.streams, traffic, stop))
        try:
            async for event in carry_out(faults, kinds, args.seed):
                events.append(event)
                _tell(event, traffic, len(events), len(faults))
        finally:
            stop.set()
            with suppress(asyncio.CancelledError):
                await asking
    return traffic, events


def _tell(event: Event, traffic: Traffic, number: int, total: int) -> None:
    ready_s = "not" if event.ready_after_s is None else f"{event.ready_after_s:.1f} s"
    what = f"stalled for {event.fault.stall_s:g} s" if event.fault.stall_s else "killed"
    pause = f"pause {pause_of(event, traffic):.2f} s"
    print(
        f"{number}/{total}: a {event.fault.kind} {what}, whole after {ready_s}, {pause}; "
        f"{traffic.num_identical} answers the same, {len(traffic.different)} different, {len(traffic.failed)} failed",
        file=sys.stderr,
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/local.yaml")
    parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--routers", type=int, default=2)
    parser.add_argument("--targets", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=ALL_KINDS, default=list(ALL_KINDS))
    parser.add_argument("--kills", type=int, default=8, help="of each kind")
    parser.add_argument("--stalls", type=int, default=0, help="of each kind")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--streams", type=int, default=6)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path("runs/chaos"))
    args = parser.parse_args(arguments)
    traffic, events = asyncio.run(run(args))
    figures = {
        "events": [asdict(event) | {"pause_s": pause_of(event, traffic)} for event in events],
        "answers": {"same": traffic.num_identical, "different": traffic.different, "failed": traffic.failed},
    }
    tell(args.output, markdown(events, traffic), figures)
    return 1 if traffic.different or traffic.failed else 0


if __name__ == "__main__":
    sys.exit(main())
