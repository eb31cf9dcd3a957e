"""Every gRPC method under fuzz: a whole cluster from outside, and its replicas' streams from inside.

    python -m benchmarks.fuzz [--messages 10000] [--seed 7] [--methods Generate Target/Sessions ...]

Messages go to each method from callers with a key and without; then the internal streams of a target and a drafter are
fuzzed in this process, where the token is known. Prints a table; the exit status is 1 if anything crashed, hung, told
internals, let a stranger in or gave a wrong answer. The same seed draws the same messages, but for what they take from
the outcomes of earlier ones; `--first N --messages 1` draws message N alone (on internal streams: stream N).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path

from benchmarks.fuzz.ports import Port, listening_ports
from benchmarks.fuzz.public import METHODS
from benchmarks.fuzz.replicas import DRAFTER, TARGET, fuzz_drafter, fuzz_target, under_fuzz
from benchmarks.fuzz.runs import Plan, fuzz_public
from benchmarks.fuzz.strangers import OurPort, fuzz_all_strangers, name_of, our_ports
from benchmarks.fuzz.verdicts import Tally, table
from benchmarks.fuzz.whole_cluster import whole_cluster
from benchmarks.results import headline
from cluster.config import Config
from cluster.config_file import load
from deployments.processes import descendants

PATHS = {method.name: method.path for method in METHODS} | {name_of(path): path for path in (TARGET, DRAFTER)}
_SETTLE_S = 5.0
"""By then Serve has replaced a replica whose health check fails."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/local.yaml")
    parser.add_argument("--messages", type=int, default=10_000, help="to each method, by each sort of caller")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--first", type=int, default=0, metavar="N", help="begin with message N")
    parser.add_argument("--methods", nargs="+", choices=list(PATHS), default=list(PATHS))
    args = parser.parse_args()
    tallies = asyncio.run(_run(args.config, args.methods, Plan(args.messages, args.seed, args.first)))
    faults = [line for tally in tallies for line in tally.report(args.seed)]
    print(headline(), table(tallies), *faults, sep="\n\n")
    return int(bool(faults))


async def _run(config: str, methods: Collection[str], plan: Plan) -> list[Tally]:
    """Everything, told line by line as it is done."""
    started_s = time.monotonic()
    tallies = []
    for tests in (_from_outside(config, methods, plan), _from_inside(under_fuzz(load(Path(config))), methods, plan)):
        async for tally in tests:
            print(
                f"{time.monotonic() - started_s:6.0f} s", table([tally]).splitlines()[-1], file=sys.stderr, flush=True
            )
            tallies.append(tally)
    return tallies


async def _from_outside(config: str, methods: Collection[str], plan: Plan) -> AsyncIterator[Tally]:
    async with whole_cluster(config) as cluster:
        every = listening_ports(descendants(os.getpid()))
        ports = await our_ports(every)
        _tell_ports(every, ports)
        for method in METHODS:
            if method.name in methods:
                yield await fuzz_public(cluster.address, method, cluster.known, plan, cluster.checkup)
        guarded = [path for name, path in PATHS.items() if name in methods]
        async for tally in fuzz_all_strangers(ports, guarded, plan, cluster.checkup):
            yield tally
        await asyncio.sleep(_SETTLE_S)
        yield Tally("at the end", faults=await cluster.checkup())


async def _from_inside(config: Config, methods: Collection[str], plan: Plan) -> AsyncIterator[Tally]:
    if name_of(TARGET) in methods:
        yield await fuzz_target(config, plan)
    if name_of(DRAFTER) in methods:
        yield await fuzz_drafter(config, next(iter(config.tier_drafters)), plan)


def _tell_ports(every: list[Port], ours: list[OurPort]) -> None:
    others = len(every) - len(ours)
    public = sum(not port.is_loopback for port in every)
    line = f"{len(ours)} ports of ours, {others} of Ray; {public} of all can be reached from other machines"
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
