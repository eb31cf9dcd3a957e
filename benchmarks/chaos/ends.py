"""A router, a target or a drafter without Ray, as a process at one end of a link.

    python -m benchmarks.chaos.ends CONFIG router SOCKET [KEY=VALUE ...]
    python -m benchmarks.chaos.ends CONFIG target-NUMBER|drafter-NAME HOST [KEY=VALUE ...]

It writes its registration to standard output, a line whenever that changes; a router's says what it is connected to. A
router reads those of replicas from standard input. All end with their standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from cluster.config import ClusterConfig, Config
from cluster.config_file import load
from cluster.ledger import Claim, Settled
from cluster.status import Report
from deployments.directory import DirectoryClient, Registration
from deployments.replica import Replica, new_replica_id
from deployments.router import Router

TOKEN = "of-linked-clusters"
"""Nobody else reaches their namespaces."""


class PipedDirectory(DirectoryClient):
    """The directory is whoever started this process."""

    def __init__(self) -> None:
        super().__init__("piped")
        self._told: Registration | None = None
        self.found: list[Registration] = []

    async def register(self, registration: Registration) -> None:
        if registration != self._told:
            self._told = registration
            print(json.dumps(asdict(registration)), flush=True)

    async def tell(self, replica_id: str, report: Report) -> None: ...

    async def unregister(self, replica_id: str) -> None: ...

    async def replicas(self) -> list[Registration] | None:
        return self.found

    async def settle(self, router_id: str, claims: Sequence[Claim]) -> Settled | None:
        """There is no ledger: limits are the router's own."""
        return None


def router_address(socket: str) -> str:
    """What clients call the router at a socket by; its front writes a port behind whatever it binds."""
    return f"unix:{socket}:0"


async def run_router(config: Config, socket: str) -> None:
    """Serve at a socket in the file system: it is reached from every network namespace."""
    directory = PipedDirectory()
    place = ClusterConfig(host=f"unix:{socket}", grpc_port=0)
    router = Router(config.model_copy(update={"cluster": place}), directory, TOKEN)
    await router.start()
    lines = await _standard_input()
    while line := await lines.readline():
        directory.found.append(Registration(**json.loads(line)))
    await router.stop()


async def run_replica(config: Config, name: str, host: str) -> None:
    """Serve a target, which has a number because routers tell what they are connected to by name, or a drafter."""
    # Here and not above: a router must not load torch.
    from deployments.draft_service import DraftService
    from deployments.target_service import TargetService

    directory = PipedDirectory()
    kind, _, drafter = name.partition("-")
    if kind == "target":
        replica = Replica("target", name, TargetService(config, new_replica_id(name), TOKEN), directory)
    else:
        service = DraftService(config, drafter, new_replica_id(drafter), TOKEN)
        replica = Replica("drafter", drafter, service, directory)
    await replica.start(host)
    await (await _standard_input()).read()
    await replica.stop(drain_s=0.0)


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("name")
    parser.add_argument("place")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args(arguments)
    config = load(args.config, args.overrides)
    if args.name == "router":
        asyncio.run(run_router(config, args.place))
    else:
        asyncio.run(run_replica(config, args.name, args.place))


if __name__ == "__main__":
    main()
