"""A target and a drafter replica without Ray, wired as a router wires them, over real streams on loopback."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from cluster import catalogue as metrics
from cluster.config import Config
from cluster.drafter_config import Placement
from cluster.errors import ContextTooLong, InternalError, Overloaded
from cluster.messages import (
    Block,
    Body,
    Close,
    Credit,
    FinishReason,
    LocalDraft,
    Message,
    Observe,
    Open,
    Resync,
    Sampling,
    Verdict,
)
from deployments.draft_service import DraftService
from deployments.target_service import TargetService
from protos.v1.internal_pb2_grpc import (
    DrafterStub,
    TargetStub,
)
from tests.tiny_targets import VOCAB_SIZE, without_numbers
from tests.unit.deployments.replicas import NAMED, serve, tiny_config
from tests.unit.deployments.streams import TOKEN, Router

PROMPT = (5, 9, 11, 20, 41)
MAX_TOKENS = 20
PLAIN = LocalDraft()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tiny_config(tmp_path_factory.mktemp("models"))


@pytest_asyncio.fixture
async def target(config: Config) -> AsyncIterator[Router]:
    async for router in serve(TargetService(config, "target-1", TOKEN), TargetStub):
        yield router


@pytest_asyncio.fixture
async def drafter(config: Config) -> AsyncIterator[Router]:
    async for router in serve(DraftService(config, "de", "de-1", TOKEN), DrafterStub):
        yield router


async def test_a_drafter_of_another_target_is_refused_in_the_targets_step(config: Config) -> None:
    local = config.drafters["de"].model_copy(update={"placement": Placement.TARGET})

    with pytest.raises(ValueError, match=r"drafter de was trained for target .* train one for"):
        TargetService(config.model_copy(update={"drafters": {"de": local}}), "target-1", TOKEN)


def _open(local: LocalDraft | None, credit: int = 1_000, temperature: float = 0.8) -> Open:
    sampling = Sampling(temperature)
    return Open(PROMPT, len(PROMPT), sampling, 77, 0, MAX_TOKENS, "default", 4, "de", local, credit_tokens=credit)


async def _verdicts(target: Router, session: int) -> list[Verdict]:
    """Until the answer ends."""
    verdicts: list[Verdict] = []
    while not verdicts or verdicts[-1].finish_reason is None:
        body = (await target.receive()).body
        assert isinstance(body, Verdict), body
        verdicts.append(body)
    return verdicts


def _tokens(verdicts: list[Verdict]) -> list[int]:
    return [token for verdict in verdicts for token in verdict.token_ids]


async def test_blocks_of_a_drafter_replica_do_not_change_the_text(target: Router, drafter: Router) -> None:
    await target.send(Message(1, 1, _open(PLAIN)))
    expected = _tokens(await _verdicts(target, 1))

    await target.send(Message(2, 1, _open(None)))
    await drafter.send(Message(2, 1, _open(None)))
    found: list[Verdict] = []
    while not found or found[-1].finish_reason is None:
        verdict = (await target.receive()).body
        assert isinstance(verdict, Verdict)
        found.append(verdict)
        if verdict.finish_reason is None:
            num_nodes = verdict.draft_nodes
            observe = Observe(verdict.base_length, verdict.token_ids, verdict.num_accepted, num_nodes)
            await drafter.send(Message(2, 1, observe))
            if num_nodes == 0:
                continue
            block = (await drafter.receive()).body
            assert isinstance(block, Block)
            assert (block.base_length, block.base_hash) == (verdict.length, verdict.hash)
            await target.send(Message(2, 1, block))

    assert _tokens(found) == expected
    assert sum(verdict.num_drafted for verdict in found) > 0
    assert not any(verdict.late_draft for verdict in found)
    assert not any(verdict.correction for verdict in found)  # it did not ask


@pytest.mark.parametrize("method", ["", "lookup"])
async def test_a_target_that_drafts_by_itself_keeps_to_its_credit(target: Router, method: str) -> None:
    await target.send(Message(1, 1, _open(LocalDraft(method, 3), credit=2)))
    first = (await target.receive()).body
    assert isinstance(first, Verdict)
    await target.send(Message(1, 1, Credit(1_000)))

    rest = await _verdicts(target, 1)

    assert rest[-1].finish_reason in (FinishReason.LENGTH, FinishReason.EOS)
    assert first.base_length == len(PROMPT)


async def test_a_target_goes_on_undrafted_when_no_block_comes(target: Router) -> None:
    await target.send(Message(1, 1, _open(None)))

    verdicts = await _verdicts(target, 1)

    assert verdicts[1].late_draft
    assert all(verdict.num_drafted == 0 for verdict in verdicts)


async def test_the_first_verdict_tells_what_was_found_and_only_named_prefixes_cross_tenants(target: Router) -> None:
    prompt = (*NAMED, *PROMPT * 4)

    found = []
    for session, tenant in enumerate(("a", "a", "b"), start=1):
        opened = replace(_open(PLAIN), token_ids=prompt, prompt_length=len(prompt), tenant=tenant)
        await target.send(Message(session, 1, opened))
        verdicts = await _verdicts(target, session)
        await target.send(Message(session, 1, Close()))
        found.append([verdict.cached_prompt_tokens for verdict in verdicts])

    assert [first for first, *_ in found] == [0, 32, 16]
    assert all(rest == [0] * len(rest) for _, *rest in found)


async def test_resync_sends_again_what_came_after_a_length(target: Router) -> None:
    await target.send(Message(1, 1, _open(PLAIN)))
    verdicts = await _verdicts(target, 1)

    await target.send(Message(1, 1, Resync(len(PROMPT) + 3)))

    assert await _verdicts(target, 1) == [verdict for verdict in verdicts if verdict.length > len(PROMPT) + 3]


async def test_what_cannot_be_decoded_closes_the_session_with_the_reason(target: Router) -> None:
    too_long = Open(PROMPT * 100, 500, Sampling(), 1, 0, 5, "default", local=PLAIN, credit_tokens=10)
    await target.send(Message(1, 1, too_long))

    body = (await target.receive()).body

    assert isinstance(body, Close)
    assert isinstance(body.error, ContextTooLong)


async def test_a_request_without_numbers_fails_with_a_message_of_its_own_and_others_go_on(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    service = TargetService(config, "target-1", TOKEN)
    async for target in serve(service, TargetStub):
        await target.send(Message(1, 1, _open(PLAIN)))
        expected = _tokens(await _verdicts(target, 1))
        await target.send(Message(1, 1, Close()))
        unsound = min(set(range(3, VOCAB_SIZE)) - {*PROMPT, *expected})

        with without_numbers(service._engine.target.model, unsound, math.nan):
            prompt = (*PROMPT, unsound)
            failing = replace(_open(PLAIN), token_ids=prompt, prompt_length=len(prompt))
            await target.send(Message(2, 1, failing), Message(3, 1, _open(PLAIN)), Message(4, 1, failing))
            bodies: dict[int, list[Body]] = {2: [], 3: [], 4: []}
            while not (bodies[2] and bodies[4] and bodies[3] and _is_last(bodies[3][-1])):
                message = await target.receive()
                bodies[message.session].append(message.body)

        for failed in (bodies[2], bodies[4]):
            (body,) = failed
            assert isinstance(body, Close) and isinstance(body.error, InternalError)
            assert body.error.message == "the model gave no numbers for this request; it is given up"
        assert _tokens([body for body in bodies[3] if isinstance(body, Verdict)]) == expected
        assert "session 2 of router-1: the model gave no numbers" in caplog.text
        assert service.measures().total(metrics.FAILED_SEQUENCES).value == 2

        await target.send(Message(3, 1, Close()), Message(5, 1, failing))
        assert _tokens(await _verdicts(target, 5)) != []  # the token is as good as any again
    service._engine.check_integrity()
    assert service._engine.num_free_pages == service._engine.scheduler.pool.num_usable


async def test_a_drafting_method_that_nobody_has_ends_its_session_and_leaves_nothing_behind(config: Config) -> None:
    service = TargetService(config, "target-1", TOKEN)
    async for target in serve(service, TargetStub):
        await target.send(Message(1, 1, _open(PLAIN, credit=2)))
        await target.receive()
        await target.send(Message(1, 1, Block(0, 0, local=LocalDraft("nope", 3))))

        while isinstance(body := (await target.receive()).body, Verdict):
            pass

        assert isinstance(body, Close) and body.error is not None
        assert "no drafting method 'nope'" in body.error.message
        await target.send(Message(2, 1, _open(PLAIN)))
        await _verdicts(target, 2)
    assert service._engine.num_sessions == 0


def _is_last(body: Body) -> bool:
    return isinstance(body, Verdict) and body.finish_reason is not None


async def test_a_tenant_with_all_its_sessions_hears_so_and_others_are_taken(target: Router) -> None:
    flood = [Message(session, 1, _open(None, credit=0)) for session in (1, 2, 3, 4)]
    await target.send(*flood, Message(5, 1, replace(_open(PLAIN), tenant="other")))

    message = await target.receive()

    assert message.session == 4
    assert isinstance(message.body, Close)
    assert isinstance(message.body.error, Overloaded)
    assert [verdict.base_length for verdict in await _verdicts(target, 5)][:1] == [len(PROMPT)]

    await target.send(Message(1, 1, Close()), Message(6, 1, _open(PLAIN)))

    assert (await _verdicts(target, 6))[-1].finish_reason is not None
