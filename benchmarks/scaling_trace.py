"""Records what the tiers of a real cluster tell while streams come and go, as data for tests of scaling policies.

python -m benchmarks.scaling_trace [--output tests/unit/cluster/data/scaling_trace.jsonl]

One target, one German drafter and one router of configs/local.yaml on this machine, of fixed size; so many streams at
once as PHASES say. A line every two seconds: seconds since the beginning, streams, and each tier's signals.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.chaos.traffic import DEADLINE_S, Question, questions, reply_to
from benchmarks.fake_machines import fake_machines
from deployments.own_ray import connected_ray
from deployments.scaling import TELL_S
from deployments.signals import signals
from polydraft import AsyncClient
from polydraft.commands.child_cluster import cluster

PHASES = ((0, 10.0), (2, 30.0), (24, 40.0), (2, 20.0), (0, 20.0))
"""(streams, seconds)."""
TIERS = ("router", "target", "drafter-de")
OVERRIDES = (
    "drafters={de: {method: lm, model: models/drafters/de, languages: [de]}}",
    "languages=[fr, ru, ja, zh]",
    "target.max_sessions=16",
    "target.draft_lengths=fixed",
    "target.num_cpus=0.2",
)


async def record(address: str) -> list[dict[str, object]]:
    """The lines."""
    lines: list[dict[str, object]] = []
    asked = questions(40, seed=11, languages=["de"])
    begin = time.monotonic()
    for streams, seconds in PHASES:
        stop = asyncio.Event()
        callers = [asyncio.create_task(keep_asking(address, asked, number, stop)) for number in range(streams)]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(TELL_S)
            told = {tier: await asyncio.to_thread(signals, "polydraft", tier) for tier in TIERS}
            lines.append({"s": round(time.monotonic() - begin, 1), "streams": streams, **_rounded(told)})
        stop.set()
        await asyncio.gather(*callers)
    return lines


async def keep_asking(address: str, asked: Sequence[Question], first: int, stop: asyncio.Event) -> None:
    """One stream after the other until told to stop."""
    async with AsyncClient(address, timeout_s=DEADLINE_S) as client:
        number = first
        while not stop.is_set():
            await reply_to(client, asked[number % len(asked)])
            number += 7


def _rounded(told: dict[str, list[dict[str, float]]]) -> dict[str, object]:
    return {tier: [{name: round(value, 4) for name, value in one.items()} for one in told[tier]] for tier in told}


async def run(config: str) -> list[dict[str, object]]:
    # No machine is ever asked for; this Ray is one whose address is known.
    with fake_machines() as machines:
        async with cluster(config, [*OVERRIDES, f"ray.address={machines.address}"]) as address:
            with connected_ray(machines.address):
                return await record(address)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/local.yaml")
    parser.add_argument("--output", type=Path, default=Path("tests/unit/cluster/data/scaling_trace.jsonl"))
    args = parser.parse_args()
    lines = asyncio.run(run(args.config))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
