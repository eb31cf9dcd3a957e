"""How long a tier takes to grow by machines and to shrink again, on raylets that Ray's autoscaler takes for machines.

python -m benchmarks.scale_machines [--output runs/scale_machines]

A German drafter that may rest, on machines of its own; a burst of German, then silence. Delays of one second up and
three down, machines that are idle for six seconds end. Real machines take minutes more to start.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.chaos.traffic import Stream, Traffic, keep_asking, questions, references, reply_to
from benchmarks.chaos.victims import Kind, ready
from benchmarks.fake_machines import FakeMachines, Machine, fake_machines
from benchmarks.results import tell
from deployments.processes import descendants
from polydraft import AsyncClient
from polydraft.commands.child_cluster import cluster

NUM_STREAMS = 6
CHANGE_S = 300.0
DELAYS = "up_delay_s: 1, down_delay_s: 3, zero_delay_s: 3"
OVERRIDES = (
    "drafters={de: {method: lm, model: models/drafters/de, languages: [de], resources: {drafter_machine: 1}, "
    f"autoscaling: {{min_replicas: 0, max_replicas: 2, sessions: 2, {DELAYS}}}}}}}",
    "languages=[fr, ru, ja, zh]",
    "target.resources={target_machine: 1}",
    "target.autoscaling={max_replicas: 2}",
    "target.draft_lengths=fixed",
    "target.num_cpus=0.2",
)
DRAFTER = Kind(["ray::ServeReplica:polydraft:drafter-de"], 1)


async def measure(address: str, machines: FakeMachines) -> dict[str, float]:
    """Seconds by what happened, and numbers of machines of the target's tier."""
    asked = questions(30, seed=7, languages=["de"])
    begin = time.monotonic()
    async with AsyncClient(address, timeout_s=60) as client:
        cold = Stream()
        await reply_to(client, asked[0], cold)
    figures = {"first token of an answer while there is no drafter": cold.arrivals_s[1] - cold.arrivals_s[0]}
    expected = await references(address, asked, NUM_STREAMS)
    traffic, stop = Traffic(), asyncio.Event()
    asking = asyncio.create_task(keep_asking(address, asked, expected, NUM_STREAMS, traffic, stop))
    figures["first drafter on a new machine, since the first answer was asked"] = await _since(
        begin, lambda: _up() >= 1
    )
    figures["second drafter on a second machine"] = await _since(begin, lambda: _up() >= 2)
    figures["machines of the target's tier in the burst"] = machines.count("target_machine")
    stop.set()
    await asking
    quiet = time.monotonic()
    figures["last drafter ended, since the silence began"] = await _since(quiet, lambda: _up() == 0)
    gone = await _since(quiet, lambda: machines.count("drafter_machine") == 0)
    figures["last machine of the tier ended, since the silence began"] = gone
    figures["machines of the target's tier at the end"] = machines.count("target_machine")
    figures["answers in the burst"] = traffic.num_asked
    figures["of them failed or different"] = len(traffic.failed) + len(traffic.different)
    return figures


def _up() -> int:
    return len(ready(DRAFTER))


async def _since(begin: float, is_so: Callable[[], bool]) -> float:
    while not is_so():
        if time.monotonic() - begin > CHANGE_S:
            raise TimeoutError(f"nothing changed within {CHANGE_S} s; processes: {len(descendants(os.getpid()))}")
        await asyncio.sleep(0.1)
    return time.monotonic() - begin


async def run(config: str) -> dict[str, float]:
    with fake_machines(Machine("drafter_machine", most=3), Machine("target_machine", most=2)) as machines:
        async with cluster(config, [*OVERRIDES, f"ray.address={machines.address}"]) as address:
            return await measure(address, machines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/local.yaml")
    parser.add_argument("--output", type=Path, default=Path("runs/scale_machines"))
    args = parser.parse_args()
    figures = asyncio.run(run(args.config))
    table = "\n".join(["| what | s or number |", "|---|---:|", *(f"| {k} | {v:.2f} |" for k, v in figures.items())])
    tell(args.output, table, figures)


if __name__ == "__main__":
    main()
