"""Target and drafter replicas of tiny models, without Ray, over real streams on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from tokenizers import Tokenizer, models, pre_tokenizers

from cluster.config import Config
from deployments.draft_service import DraftService
from deployments.guard import Guard
from deployments.replica import Servicer
from deployments.servers import Server
from deployments.target_service import TargetService
from protos.v1.internal_pb2_grpc import (
    DrafterStub,
    TargetStub,
    add_DrafterServicer_to_server,
    add_TargetServicer_to_server,
)
from tests.fakes_drafter import write_tiny_drafter
from tests.tiny_targets import VOCAB_SIZE, write_tiny_target
from tests.unit.deployments.streams import Router

NAMED = tuple(range(10, 27))
"""A beginning of prompts that all tenants share."""


def tiny_config(directory: Path, **sections: Any) -> Config:
    """A tiny target and a tiny drafter in `directory`, and whatever sections are added."""
    write_tiny_target(directory / "target")
    vocabulary = {f"t{number}": number for number in range(VOCAB_SIZE)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="t0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(directory / "target" / "tokenizer.json"))
    write_tiny_drafter(directory / "drafter")
    target = {
        "model": str(directory / "target"),
        "num_pages": 64,
        "max_sessions": 2,
        "max_waiting": 1,
        "draft_deadline_s": 1.0,  # longer than a busy machine takes
        "shared_prefixes": [" ".join(f"t{number}" for number in NAMED)],
    }
    drafters = {"de": {"method": "lm", "model": str(directory / "drafter")}, "lookup": {"method": "ngram"}}
    limits = {"lease_s": 300.0}  # the routers of these tests do not beat
    return Config.model_validate({"target": target, "drafters": drafters, "limits": limits, **sections})


async def serve(
    service: TargetService | DraftService, stub: type[TargetStub] | type[DrafterStub]
) -> AsyncIterator[Router]:
    """A router's end of the stream, until the iterator is closed."""
    server = Server(Guard(), ())
    if isinstance(service, TargetService):
        add_TargetServicer_to_server(Servicer(service.server), server)
    else:
        add_DrafterServicer_to_server(Servicer(service.server), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    service.server.start()
    service.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        router = Router(stub(channel))
        router.channel = channel
        await router.greet()
        yield router
    await service.server.stop(0.0)
    await server.stop(None)
    service.stop()
    service.check_health()
