"""A caller whose connection holds next to nothing, so that the cluster feels how slowly it reads.

gRPC's windows hold whole answers of this size: a reader that merely sleeps would hold nobody back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import grpc

from benchmarks.chaos.traffic import DEADLINE_S, Question, Reply, reply_of
from polydraft import Event
from polydraft._progress import Progress
from polydraft._wire import to_error, to_request
from polydraft.client import TENANT_METADATA
from protos.v1.generate_pb2_grpc import GenerationStub

_NARROW = (("grpc.http2.lookahead_bytes", 256), ("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1))


async def read_slowly(
    address: str, tenant: str | None, question: Question, *, pause_s: float = 0.0, stall_s: float = 0.0
) -> Reply:
    """The whole answer, with a pause after each message and a longer one after the first."""
    return await reply_of(_events(address, tenant, question, pause_s, stall_s))


async def _events(
    address: str, tenant: str | None, question: Question, pause_s: float, stall_s: float
) -> AsyncGenerator[Event, None]:
    progress = Progress(to_request(question.prompt, question.options))
    metadata = ((TENANT_METADATA, tenant),) if tenant is not None else ()
    async with grpc.aio.insecure_channel(address, options=_NARROW) as channel:
        call = GenerationStub(channel).GenerateStream(progress.request(0.0), metadata=metadata, timeout=DEADLINE_S)
        try:
            async for message in call:
                for event in progress.accept(message):
                    yield event
                await asyncio.sleep(stall_s or pause_s)
                stall_s = 0.0
        except grpc.aio.AioRpcError as error:
            raise to_error(error) from None
        finally:
            call.cancel()
