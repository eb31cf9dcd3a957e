"""Ask while faults happen, compare with what was answered before the first, and tell."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from benchmarks.chaos.faults import Event
from benchmarks.chaos.report import figures, markdown, tell_event
from benchmarks.chaos.traffic import Traffic, keep_asking, questions, references
from benchmarks.results import tell


def add_arguments(parser: argparse.ArgumentParser, output: str) -> None:
    """What to ask of which cluster, and where to write what came of it."""
    parser.add_argument("--config", type=Path, default=Path("configs/local.yaml"))
    parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--streams", type=int, default=6)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path(output))


async def compare(
    args: argparse.Namespace, address: str, faults: AsyncIterator[Event], num_faults: int
) -> tuple[Traffic, list[Event]]:
    """Every question at least once, until the last fault is over. `faults` happen as they are asked for."""
    asked = questions(args.requests, args.seed)
    traffic, events, stop = Traffic(), list[Event](), asyncio.Event()
    expected = await references(address, asked, args.streams)
    asking = asyncio.create_task(keep_asking(address, asked, expected, args.streams, traffic, stop))
    try:
        async for event in faults:
            events.append(event)
            tell_event(event, traffic, len(events), num_faults)
    finally:
        stop.set()
        with suppress(asyncio.CancelledError):
            await asking
    return traffic, events


def conclude(output: Path, traffic: Traffic, events: list[Event]) -> int:
    """Tell all; the exit status."""
    tell(output, markdown(events, traffic), figures(events, traffic))
    return 1 if traffic.different or traffic.failed else 0
