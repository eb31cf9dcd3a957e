"""A cluster as `polydraft serve` starts it, with tenants that have keys, and whether it is still whole."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.victims import kinds_of, ready
from benchmarks.fuzz.calls import HANG_S
from benchmarks.fuzz.public import Known
from benchmarks.fuzz.runs import Checkup
from benchmarks.fuzz.verdicts import Fault, Kind
from cluster.config import DEFAULT_TENANT, Config
from cluster.config_file import load
from cluster.keys import hash_key, new_key
from deployments.processes import Process
from polydraft.client import KEY_METADATA, TENANT_METADATA, AsyncClient
from polydraft.commands.child_cluster import cluster
from polydraft.errors import PolydraftError

TENANT = "acme"
_PROMPT = "Translate German to English: Der Zug hat heute keine Versp\u00e4tung.\n"
_OVERRIDES = ("limits.default_max_tokens=4", "limits.max_tokens=16")
"""Answers are short, so that many fit into the time."""


@dataclass(frozen=True, slots=True)
class WholeCluster:
    """Where it answers, what its caller knows, and a look at it."""

    address: str
    known: Known
    checkup: Checkup


@asynccontextmanager
async def whole_cluster(config: str) -> AsyncIterator[WholeCluster]:
    """A cluster that runs inside the block. No tenant is without a key, not even the default one."""
    key = new_key()
    with tempfile.TemporaryDirectory() as folder:
        tenants = Path(folder) / "tenants.yaml"
        tenants.write_text("".join(f"{name}: {{keys: ['{hash_key(key)}']}}\n" for name in (DEFAULT_TENANT, TENANT)))
        async with (
            cluster(config, [*_OVERRIDES, f"tenants_file={tenants}"]) as address,
            AsyncClient(address, TENANT, key=key, timeout_s=HANG_S) as client,
        ):
            reference, numerics_id = await canary(client)
            processes = await _processes(load(Path(config)))

            async def checkup() -> list[Fault]:
                dead = [process.pid for process in processes if not process.is_alive]
                faults = [Fault(Kind.CRASH, f"processes {dead} have ended")] if dead else []
                return faults + await canary_faults(client, reference)

            metadata = ((TENANT_METADATA, TENANT), (KEY_METADATA, key))
            yield WholeCluster(address, Known(metadata, numerics_id), checkup)


async def _processes(config: Config) -> list[Process]:
    """All that a cluster consists of, once they are there."""
    while True:
        found = [(kind.count, ready(kind)) for kind in kinds_of(config).values()]
        if all(len(processes) == count for count, processes in found):
            return [process for _, processes in found for process in processes]
        await asyncio.sleep(0.1)


async def canary_faults(client: AsyncClient, reference: tuple[int, ...]) -> list[Fault]:
    """What is wrong with a lawful answer."""
    try:
        found, _ = await canary(client)
    except PolydraftError as error:
        return [Fault(Kind.CRASH, f"a lawful request: {error!r}")]
    return [] if found == reference else [Fault(Kind.WRONG, f"a lawful request: {found}, not {reference}")]


async def canary(client: AsyncClient) -> tuple[tuple[int, ...], str]:
    """Tokens and numerics of an answer that is the same whatever else is served."""
    answer = await client.generate(_PROMPT, max_tokens=12, temperature=0.7, seed=5)
    return tuple(answer.token_ids), answer.numerics_id
