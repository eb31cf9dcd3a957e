"""What a `PeerServer` tells its replica."""

from __future__ import annotations

import asyncio

from cluster.errors import ContextTooLong
from cluster.messages import Block, Credit, Heartbeat, Hello, Observe, Open, Resync
from deployments.peer_server import SessionKey


class Recorder:
    """A replica that notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def hello(self) -> Hello:
        return Hello("target-1", target_id="t", tokenizer_hash="tok")

    def load(self) -> Heartbeat:
        return Heartbeat(1, 2, 3)

    def open(self, key: SessionKey, epoch: int, request: Open) -> None:
        if not request.token_ids:
            raise ContextTooLong("0 tokens do not fit")
        self.calls.append(("open", key, epoch))

    def message(self, key: SessionKey, body: Block | Credit | Observe | Resync) -> None:
        self.calls.append(("message", key, body))

    def close(self, key: SessionKey) -> None:
        self.calls.append(("close", key))

    async def until(self, *call: object) -> None:
        async with asyncio.timeout(20):
            while call not in self.calls:
                await asyncio.sleep(0.01)
