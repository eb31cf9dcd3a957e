"""A gRPC server that ends when it is told to, and not when a stranger wants it to.

grpc.aio of 1.84 and 1.85 decodes the name of a method that it does not have in the task that accepts all calls: one
call whose path is no UTF-8 ends the server. Here such calls are refused before that task sees them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server

from deployments.guard import Guard

Options = Sequence[tuple[str, int | str]]


class Server(_server.Server):
    """grpc.aio's server over a core of ours, guarded."""

    def __init__(self, guard: Guard, options: Options) -> None:
        # In place of its base's, which makes a core of its own.
        self._loop = asyncio.get_running_loop()
        self._server = _Core(self._loop, None, (), (guard,), tuple(options), None)
        self._is_stopping = False

    def check_health(self) -> None:
        """Raise if it has ended by itself, which its process outlives."""
        if not self._server.is_running() and not self._is_stopping:
            raise RuntimeError("the gRPC server has ended")

    async def stop(self, grace: float | None) -> None:
        self._is_stopping = True
        await super().stop(grace)


class _Core(cygrpc.AioServer):  # type: ignore[misc]  # compiled, without types
    """What accepts calls. Those of methods that it has come another way (`_request_registered_call`)."""

    async def _request_call(self) -> None:
        """Refuses calls of methods that it does not have, until the server ends, which raises."""
        loop = asyncio.get_running_loop()
        refusals: set[asyncio.Task[None]] = set()  # the loop itself would forget them
        while True:
            call = await super()._request_call()
            refusal = cygrpc._handle_rpc("", _Nothing, (), call, loop, False)
            task = loop.create_task(cygrpc._schedule_rpc_coro(refusal, call, loop, ""))
            refusals.add(task)
            task.add_done_callback(refusals.discard)


class _Nothing:
    """Finds no method."""

    @staticmethod
    def resolve_handler(details: grpc.HandlerCallDetails) -> None:
        return None
