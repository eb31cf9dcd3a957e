"""Keep a cluster saturated with calls of all manners, then kill a router: what grows, and what is not given back?

    python -m benchmarks.soak [--minutes 10] [--streams 24] [--config configs/local.yaml] [--set KEY=VALUE ...]
        [--output runs/soak]

Two routers and two targets with little room, so that sessions wait, are preempted and evict each other's pages. Drafts
are always asked for: at saturation measured lengths would leave the drafters nothing to do (`--set
target.draft_lengths=measured`). Exit status 1 if an answer was not its reference, a process of ours grew by more than
5 % after the warm-up or was replaced, or sessions, pages or streams were left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from deployments.own_ray import connected_address, connected_ray  # before Ray itself: it sets what Ray reads

# isort: split
from benchmarks.chaos.traffic import references
from benchmarks.chaos.victims import kinds_of
from benchmarks.results import tell
from benchmarks.soak.callers import TENANTS, Callers
from benchmarks.soak.memory import Memory, processes_of
from benchmarks.soak.observer import observing
from benchmarks.soak.orphans import kill_a_router
from benchmarks.soak.questions import mixed_questions
from benchmarks.soak.report import Report, markdown
from cluster.config_file import load
from polydraft.commands.child_cluster import cluster

OVERRIDES = (
    "cluster.routers=2",
    "target.replicas=2",
    "target.max_sessions=8",
    "target.num_pages=256",
    "target.draft_lengths=fixed",
    "limits.slow_reader_s=5.0",
    *(f"tenants.{name}.{setting}" for name, settings in TENANTS.items() for setting in settings),
)
NUM_QUESTIONS = 120
EMPTY_S = 5.0
"""Within so long nothing may be held any more: a heartbeat, and a router's next word to the ledger."""
SAMPLE_S, TELL_S = 2.0, 30.0


async def soak(config_path: str, overrides: Sequence[str], minutes: float, num_streams: int, seed: int) -> Report:
    """On the Ray that this process is connected to."""
    config = load(Path(config_path), overrides)
    kinds = kinds_of(config)
    asked = mixed_questions(NUM_QUESTIONS, seed, has_chats=(config.target.model / "chat_template.jinja").is_file())
    async with (
        cluster(config_path, [*overrides, f"ray.address={connected_address()}"]) as address,
        observing(config) as observer,
    ):
        callers = Callers(address, config, asked, await references(address, asked, num_streams), seed)
        memory = Memory(kinds, processes_of(kinds))
        await _saturate(callers, num_streams, memory, minutes * 60)
        problems = callers.problems
        empty_after_s, left = await observer.wait_until_empty(EMPTY_S)
        problems += [f"{EMPTY_S:g} s after the last answer: {left}"] if left else []
        problems += memory.changes()

        orphans = await kill_a_router(address, kinds["router"], observer, config.limits, asked, callers.expected, seed)
        _, left = await observer.wait_until_empty(EMPTY_S)
        problems += [*orphans.problems, *([f"after a router's end: {left}"] if left else [])]
        return Report(dict(callers.outcomes), memory.growth(minutes * 60), empty_after_s, orphans, problems)


async def _saturate(callers: Callers, num_streams: int, memory: Memory, length_s: float) -> None:
    """Call for so long, and sample the memory meanwhile."""
    stop = asyncio.Event()
    calling = asyncio.create_task(callers.run(num_streams, stop))
    begin_s = time.monotonic()
    told_s = 0.0
    while (elapsed_s := time.monotonic() - begin_s) < length_s and not calling.done():
        memory.sample(elapsed_s)
        if elapsed_s > told_s + TELL_S:
            told_s = elapsed_s
            told = f"{callers.outcomes.total()} calls, {len(callers.problems)} problems"
            print(f"{elapsed_s:.0f} s: {told}", file=sys.stderr, flush=True)
        await asyncio.sleep(SAMPLE_S)
    stop.set()
    await calling


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/local.yaml")
    parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--streams", type=int, default=24)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path("runs/soak"))
    args = parser.parse_args(arguments)
    overrides = [*OVERRIDES, *args.set]
    ray = load(Path(args.config), overrides).ray
    with connected_ray(None, ray.num_cpus, ray.object_store_memory_mb):
        report = asyncio.run(soak(args.config, overrides, args.minutes, args.streams, args.seed))
    tell(args.output, markdown(report), asdict(report))
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
