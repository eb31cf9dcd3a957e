"""Weights change twenty times under running requests: none fails, and seeded text stays the target's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from cluster.config import Config
from cluster.messages import Block, Close, LocalDraft, Message, Observe, Open, Sampling, Verdict
from deployments.adaptation import version_folder
from deployments.draft_service import DraftService
from deployments.draft_versions import Transcripts
from deployments.target_service import TargetService
from protos.v1.internal_pb2_grpc import DrafterStub, TargetStub
from tests.fakes_drafter import write_tiny_drafter
from tests.unit.deployments.replicas import serve, tiny_config
from tests.unit.deployments.streams import TOKEN, Router

NUM_SWAPS = 20
MAX_TOKENS = 24
PROMPTS = [(5, 9, 11, 20, 41), (60, 61, 7), (33, 12, 12, 80)]


class Swapper:
    """A trainer whose current version is another one each time it is asked."""

    def __init__(self) -> None:
        self.number = 0
        self.got: list[Transcripts] = []

    async def exchange(self, transcripts: Transcripts) -> Mapping[str, int] | None:
        self.got += [transcripts] if transcripts else []
        self.number += self.number < NUM_SWAPS
        return {"acme": self.number}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    directory: Path = tmp_path_factory.mktemp("models")
    config = tiny_config(
        directory,
        tenants={"acme": {"adapt_drafters": True}},
        adaptation={"directory": str(directory / "versions"), "top_k": 5},
    )
    for number in range(1, NUM_SWAPS + 1):
        write_tiny_drafter(version_folder(config, "de", "acme") / str(number), seed=number)
    return config


@pytest_asyncio.fixture
async def target(config: Config) -> AsyncIterator[Router]:
    async for router in serve(TargetService(config, "target-1", TOKEN), TargetStub):
        yield router


def _open(prompt: tuple[int, ...], local: LocalDraft | None) -> Open:
    """With `local` by the target alone, else with a drafter that learns."""
    sampling, top_k = Sampling(0.8), 0 if local is not None else 5
    return Open(prompt, len(prompt), sampling, 77, 0, MAX_TOKENS, "acme", 4, "de", local, 1_000, top_k)


async def _plain_text(target: Router, session: int, prompt: tuple[int, ...]) -> list[int]:
    await target.send(Message(session, 1, _open(prompt, LocalDraft())))
    tokens: list[int] = []
    while True:
        verdict = (await target.receive()).body
        assert isinstance(verdict, Verdict)
        tokens += verdict.token_ids
        if verdict.finish_reason is not None:
            await target.send(Message(session, 1, Close()))
            return tokens


async def test_twenty_swaps_fail_no_request_and_change_no_text(config: Config, target: Router) -> None:
    expected = [await _plain_text(target, session, prompt) for session, prompt in enumerate(PROMPTS, start=1)]
    swapper = Swapper()
    service = DraftService(config, "de", "de-1", TOKEN, swapper)
    assert service.versions is not None
    named: set[str] = set()
    texts: list[list[int]] = []

    async for drafter in serve(service, DrafterStub):
        session = 100
        while swapper.number < NUM_SWAPS or len(texts) % len(PROMPTS):
            session += 1
            opened = Message(session, 1, _open(PROMPTS[len(texts) % len(PROMPTS)], None))
            await target.send(opened)
            await drafter.send(opened)
            texts.append([])
            while True:
                verdict = (await target.receive()).body
                assert isinstance(verdict, Verdict) and verdict.error is None
                texts[-1] += verdict.token_ids
                ended = verdict.finish_reason is not None
                num_nodes = 0 if ended else verdict.draft_nodes
                observe = Observe(
                    verdict.base_length, verdict.token_ids, verdict.num_accepted, num_nodes, False, verdict.correction
                )
                await drafter.send(Message(session, 1, observe))
                if ended:
                    break
                if num_nodes:
                    if len(texts[-1]) % 3 == 0:
                        await service.versions.exchange()
                    block = (await drafter.receive()).body
                    assert isinstance(block, Block), block
                    named.add(block.drafter_version)
                    await target.send(Message(session, 1, block))
            for router in (target, drafter):
                await router.send(Message(session, 1, Close()))

    assert swapper.number == NUM_SWAPS
    assert texts == expected * (len(texts) // len(PROMPTS))
    assert "de@0" in named and len(named - {""}) > 3
    assert service.versions.num_dropped == 0
    transcripts = [transcript for got in swapper.got for transcript in got["acme"]]
    assert sum(len(transcript.corrections) for transcript in transcripts) > 20
    assert all(len(c.likely.token_ids) == 5 for transcript in transcripts for c in transcript.corrections)
