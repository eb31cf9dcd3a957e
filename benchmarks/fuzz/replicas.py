"""Replicas of a configuration's models under fuzz in this process, and whether they are still whole."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import grpc

from benchmarks.fuzz.calls import HANG_S, open_channel
from benchmarks.fuzz.frames import Canon
from benchmarks.fuzz.one_process import TOKEN, LocalDirectory, running_replica
from benchmarks.fuzz.runs import Plan
from benchmarks.fuzz.streams import fuzz_streams
from benchmarks.fuzz.verdicts import Fault, Kind, Tally
from cluster.config import Config, TenantConfig
from cluster.messages import TOKEN_METADATA, Heartbeat
from cluster.model_files import TargetFacts, target_facts
from deployments.draft_service import DraftService
from deployments.draft_versions import Transcripts
from deployments.target_service import TargetService
from protos.v1 import internal_pb2 as pb
from protos.v1 import types_pb2

TARGET, DRAFTER = "/polydraft.v1.Target/Sessions", "/polydraft.v1.Drafter/Sessions"
_LEAST_TOKENS = 6
"""Of the canonical answer, so that blocks of several nodes can come true."""


class _NoTrainer:
    """A trainer that is away: what sessions teach is gathered, and dropped."""

    async def exchange(self, transcripts: Transcripts) -> Mapping[str, int] | None:
        return None


def under_fuzz(config: Config) -> Config:
    """Little room, short leases, and a tenant that drafters learn from."""
    target = {
        "max_context": 256,
        "num_pages": 33,
        "max_sessions": 12,
        "draft_lengths": "fixed",
        "draft_deadline_s": 0.01,
    }
    limits = {"heartbeat_s": 0.1, "lease_s": 2.0}
    return config.model_copy(
        update={
            "target": config.target.model_copy(update=target),
            "limits": config.limits.model_copy(update=limits),
            "tenants": {"a": TenantConfig(adapt_drafters=True)},
        }
    )


async def fuzz_target(config: Config, plan: Plan) -> Tally:
    """Streams to a target replica."""
    service = TargetService(config, "target-1", TOKEN)
    at_rest = Heartbeat(free_pages=config.target.num_pages - 1)
    return await _fuzz(service, "target", TARGET, plan, target_facts(config), at_rest)


async def fuzz_drafter(config: Config, name: str, plan: Plan) -> Tally:
    """Streams to a drafter replica."""
    service = DraftService(config, name, f"{name}-1", TOKEN, _NoTrainer())
    return await _fuzz(service, name, DRAFTER, plan, target_facts(config), Heartbeat())


async def _fuzz(
    service: TargetService | DraftService, name: str, path: str, plan: Plan, facts: TargetFacts, at_rest: Heartbeat
) -> Tally:
    """`at_rest` is what a replica tells of itself when all sessions have gone."""
    async with running_replica(service, name, LocalDirectory()) as address:
        opened, reference = await _canonical(address, path)
        canon = Canon(opened, reference if isinstance(reference, tuple) else (), facts.vocab_size, facts.max_context)

        async def checkup() -> list[Fault]:
            try:
                async with asyncio.timeout(HANG_S):
                    while replace(service.load(), is_plain=False) != at_rest:
                        service.check_health()
                        await asyncio.sleep(0.05)
                    found = await _ask(address, path, opened)
                service.check_health()
            except TimeoutError:
                return [Fault(Kind.CRASH, f"something is left over, or a lawful session hangs: {service.load()}")]
            except (RuntimeError, grpc.aio.AioRpcError) as error:
                return [Fault(Kind.CRASH, f"{error}: {error.__cause__!r}")]
            return [] if found == reference else [Fault(Kind.WRONG, f"a lawful session: {found!r}, not {reference!r}")]

        return await fuzz_streams(address, path, canon, plan, checkup)


async def _canonical(address: str, path: str) -> tuple[pb.Open, tuple[int, ...] | bytes]:
    """A session and what it gives while nothing else is there; one that is not over at once."""
    seed = 0
    while True:
        seed += 1
        opened = pb.Open(
            token_ids=range(5, 25),
            prompt_length=20,
            sampling=types_pb2.Sampling(temperature=0.8),
            seed=seed,
            max_tokens=12,
            tenant="canon",
            max_draft_tokens=4,
            credit_tokens=1_000,
            drafter="de",
        )
        reference = await _ask(address, path, opened)
        if len(reference) >= _LEAST_TOKENS:
            return opened, reference


async def _ask(address: str, path: str, opened: pb.Open) -> tuple[int, ...] | bytes:
    """All tokens of a session of a target, or the first block of a drafter's as bytes."""
    frames = [
        pb.Message(hello=pb.Hello(protocol=1, peer_id="canary")),
        pb.Message(session=1, epoch=1, open=opened),
    ]
    if path == DRAFTER:
        observe = pb.Observe(base_length=len(opened.token_ids), token_ids=[7], max_nodes=4)
        frames.append(pb.Message(session=1, epoch=1, observe=observe))
    token_ids: list[int] = []
    async with open_channel(address) as channel:
        call = channel.stream_stream(path, pb.Frame.SerializeToString, pb.Frame.FromString)(
            metadata=((TOKEN_METADATA, TOKEN),)
        )
        for message in frames:
            await call.write(pb.Frame(messages=[message]))
        last: pb.Message | None = None
        while last is None:
            frame = await call.read()
            assert isinstance(frame, pb.Frame), "the stream ended"
            await call.write(pb.Frame(messages=[pb.Message(heartbeat=pb.Heartbeat())]))
            for message in frame.messages:
                if message.HasField("close"):
                    raise RuntimeError(f"a lawful session was closed: {message.close.error_message}")
                token_ids += message.verdict.token_ids
                if message.HasField("block") or message.verdict.finish_reason:
                    last = message
        await call.write(pb.Frame(messages=[pb.Message(session=1, epoch=1, close=pb.Close())]))
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass
    return last.block.tree if path == DRAFTER else tuple(token_ids)
