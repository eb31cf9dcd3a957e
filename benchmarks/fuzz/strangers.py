"""What callers without key or token get from every port that a cluster has open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random

import grpc
from google.protobuf.message import Message

from benchmarks.fuzz.calls import Call, Manner, ask, open_channel
from benchmarks.fuzz.ports import Port
from benchmarks.fuzz.public import METHODS, Known, lawful_request
from benchmarks.fuzz.raw_http2 import fuzz_bytes
from benchmarks.fuzz.replicas import DRAFTER, TARGET
from benchmarks.fuzz.runs import Checkup, Plan, fuzz_strangers
from benchmarks.fuzz.verdicts import Tally
from polydraft.client import TENANT_METADATA
from protos.v1 import internal_pb2

GENERATE, STREAM = (method.path for method in METHODS if method.needs_key)
PATHS = (GENERATE, STREAM, TARGET, DRAFTER)
"""All methods that are not for everybody."""
_NOBODY = ((TENANT_METADATA, "nobody"),)
_LOOK_S = 3.0
_SMALL_SHARE = 10
"""To each port by bytes, and of methods that it does not have: there is less to learn."""


@dataclass(frozen=True, slots=True)
class OurPort:
    """A gRPC server of ours, and which of the guarded methods it has."""

    address: str
    paths: tuple[str, ...]


async def our_ports(ports: Iterable[Port]) -> list[OurPort]:
    """Those of the ports where one of our methods refuses a stranger; the others belong to Ray."""
    found = await asyncio.gather(*(_look(f"127.0.0.1:{port.number}") for port in ports))
    return [port for port in found if port.paths]


async def _look(address: str) -> OurPort:
    async with open_channel(address) as channel:
        call = Call("", (b"",), _NOBODY, Manner.DEADLINE, _LOOK_S)
        outcomes = await asyncio.gather(*(ask(channel, replace(call, path=path)) for path in PATHS))
    refusals = zip(PATHS, outcomes, strict=True)
    has = (path for path, outcome in refusals if outcome.status is grpc.StatusCode.UNAUTHENTICATED)
    return OurPort(address, tuple(has))


async def fuzz_all_strangers(
    ports: Sequence[OurPort], paths: Sequence[str], plan: Plan, checkup: Checkup
) -> AsyncIterator[Tally]:
    """Each guarded method at the ports that have it, at those that have not, and bytes at all."""
    for path in (path for path in paths if path in PATHS):
        having = [port for port in ports if path in port.paths]
        tally = Tally(f"{name_of(path)}, no key")
        for number, port in enumerate(having):
            await fuzz_strangers(port.address, tally, path, _lawful(path), plan.part(number, len(having)), checkup)
        yield tally
    few = replace(plan, num_messages=max(plan.num_messages // _SMALL_SHARE, 1))
    elsewhere = Tally("elsewhere, no key")
    for port in ports:
        for path in set(PATHS) - set(port.paths):
            await fuzz_strangers(port.address, elsewhere, path, _lawful(path), few, checkup)
    yield elsewhere
    garbage = Tally("bytes, no key")
    for port in ports:
        await fuzz_bytes(port.address, garbage, PATHS, few)
    garbage.faults += await checkup()
    yield garbage


def name_of(path: str) -> str:
    """For people."""
    service, _, method = path.rpartition("/")
    return method if path in (GENERATE, STREAM) else f"{service.rpartition('.')[2]}/{method}"


def _lawful(path: str) -> Callable[[Random], Message]:
    if path in (GENERATE, STREAM):
        return lambda rng: lawful_request(rng, Known((), ""))
    hello = internal_pb2.Message(hello=internal_pb2.Hello(protocol=1, peer_id="stranger"))
    return lambda rng: internal_pb2.Frame(messages=[hello])
