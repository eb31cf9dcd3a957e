"""Measures systems in turns: A B C A B C, so that a slow hour of the machine hits all alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.peers.contract import Bench, System
from benchmarks.peers.measure import Figure, Load, Plan, best_threads, describe, loads_by_threads, run
from polydraft.commands.bench_load import Progress


@dataclass(slots=True)
class Contender:
    """A system that takes part, and what it has shown so far."""

    system: System
    threads: dict[Load, int] = field(default_factory=dict)
    repetitions: list[list[Figure]] = field(default_factory=list)
    failed: bool = False


class Comparison:
    """A system that fails is left out from then on; the others go on."""

    def __init__(self, bench: Bench, plan: Plan, systems: Sequence[System], progress: Progress) -> None:
        self._bench = bench
        self._plan = plan
        self._progress = progress
        self.contenders = [Contender(system) for system in systems]

    async def choose_threads(self, choices: Sequence[int]) -> None:
        """Find what number of threads suits each system under each load."""

        async def sweep(contender: Contender) -> None:
            contender.threads = await best_threads(contender.system, self._bench, self._plan, choices, self._progress)

        await self._each(sweep)

    async def repeat(self) -> None:
        """Measure every system once under all its loads."""

        async def measure(contender: Contender) -> None:
            figures = []
            for threads, loads in loads_by_threads(contender.threads).items():
                figures += await run(contender.system, self._bench, self._plan, threads, loads)
            for figure in figures:
                self._progress(describe(figure))
            contender.repetitions.append(figures)

        await self._each(measure)

    async def _each(self, do: Callable[[Contender], Awaitable[None]]) -> None:
        for contender in self.contenders:
            if contender.failed:
                continue
            try:
                await do(contender)
            except Exception as error:  # whatever a foreign server does: the others are still worth measuring
                self._progress(f"{contender.system.name} left out from here on: {error!r}")
                contender.failed = True
