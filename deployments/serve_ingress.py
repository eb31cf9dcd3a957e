"""The second front: the same service behind Ray Serve's gRPC proxy (`front: serve`).

The proxy has no TLS, tells no deadline, holds nothing back when a client reads slowly, and drops the metadata of calls
that fail: callers get status and message without the finer code. It suits clusters that have Serve's ingress already.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from ray.serve.grpc_util import RayServegRPCContext
from starlette.applications import Starlette

from cluster.config import Config
from cluster.errors import PolydraftError
from cluster.logs import configure
from deployments.directory import DirectoryClient
from deployments.metrics import Exporter
from deployments.public import event_to_pb, join_events
from deployments.router import Router
from deployments.status import status_of, trailing_metadata
from protos.v1 import generate_pb2 as pb

SERVICERS = ["protos.v1.generate_pb2_grpc.add_GenerationServicer_to_server"]


class Refused(Exception):
    """Ends a call after its status is set; Serve shows callers the status alone."""


class ServeIngressDeployment:
    """One router replica behind the proxy; otherwise as `RouterDeployment`."""

    async def __init__(self, config: Config, directory_name: str, token: str, *tiers: object) -> None:  # type: ignore[misc]  # awaited by Serve
        configure(config.logging, "router")
        self._router = Router(config, DirectoryClient(directory_name), token, tiers)
        await self._router.start()
        self._reporting = asyncio.create_task(Exporter(self._router.measures).run())

    def reconfigure(self, thresholds: Mapping[str, int]) -> None:
        self._router.wake_for(thresholds)

    def record_autoscaling_stats(self) -> dict[str, float]:
        return self._router.scaling_signals()

    async def GenerateStream(
        self, request: pb.GenerateRequest, grpc_context: RayServegRPCContext
    ) -> AsyncGenerator[pb.GenerateEvent, None]:
        metadata = dict(grpc_context.invocation_metadata())
        try:
            async with aclosing(self._router.generation.answer(request, metadata)) as events:
                async for event in events:
                    yield event_to_pb(event)
        except PolydraftError as error:
            raise _refused(grpc_context, error) from None

    async def Generate(self, request: pb.GenerateRequest, grpc_context: RayServegRPCContext) -> pb.GenerateResponse:
        metadata = dict(grpc_context.invocation_metadata())
        try:
            async with aclosing(self._router.generation.answer(request, metadata)) as events:
                return join_events([event_to_pb(event) async for event in events])
        except PolydraftError as error:
            raise _refused(grpc_context, error) from None

    def __serve_build_asgi_app__(self) -> Starlette:
        return self._router.openai_app()

    def check_health(self) -> None:
        self._router.check_health()

    async def __del__(self) -> None:
        self._reporting.cancel()
        await self._router.stop()


def _refused(context: RayServegRPCContext, error: PolydraftError) -> Refused:
    context.set_code(status_of(error))
    context.set_details(error.message)
    context.set_trailing_metadata(list(trailing_metadata(error)))
    return Refused(error.code)
