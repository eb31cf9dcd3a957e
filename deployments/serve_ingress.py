"""The second front: the same service behind Ray Serve's gRPC proxy (`front: serve`).

The proxy has no TLS, tells no deadline, holds nothing back when a client reads slowly, and drops the metadata of calls
that fail: callers get status and message without the finer code. It suits clusters that have Serve's ingress already.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from ray.serve.grpc_util import RayServegRPCContext

from cluster.errors import PolydraftError
from deployments.public import event_to_pb, join_events
from deployments.router import RouterDeployment
from deployments.status import status_of, trailing_metadata
from protos.v1 import generate_pb2 as pb

SERVICERS = ["protos.v1.generate_pb2_grpc.add_GenerationServicer_to_server"]


class Refused(Exception):
    """Ends a call after its status is set; Serve shows callers the status alone."""


class ServeIngressDeployment(RouterDeployment):
    """One router replica that Serve's gRPC proxy calls."""

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


def _refused(context: RayServegRPCContext, error: PolydraftError) -> Refused:
    context.set_code(status_of(error))
    context.set_details(error.message)
    context.set_trailing_metadata(list(trailing_metadata(error)))
    return Refused(error.code)
