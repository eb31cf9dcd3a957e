"""A request against in-memory replicas: each kind of bad input has a message of its own, and streams are counted."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.budgets import Budgets
from cluster.config import Config
from cluster.delivery import deliver
from cluster.errors import (
    Cancelled,
    ContextTooLong,
    InvalidRequest,
    NotImplementedYet,
    Overloaded,
    PolydraftError,
    TargetChanged,
    Unauthenticated,
    UnknownDrafter,
    UnsupportedLanguage,
)
from cluster.events import Event, Finished, Started
from cluster.keys import hash_key
from cluster.leases import Lease
from cluster.model_files import TargetFacts
from cluster.request import RawRequest, RawResume
from cluster.service import GenerationService
from tests.unit.cluster.fakes import FakeClock, FakeDrafter, FakeFleet, FakeTarget, Turn, byte_tokenizer, no_ledger

ANSWER = "An answer."
OLD_KEY, KEY = "open sesame", "close sesame"


@dataclass
class Found:
    language: str


class FakeDetector:
    def detect(self, text: str) -> Found | None:
        return Found("de") if "Wo" in text else None


@pytest.fixture
def service(tmp_path: Path) -> GenerationService:
    config = Config.model_validate(
        {
            "target": {"model": "m"},
            "drafters": {"de": {"method": "lm", "model": "d", "languages": ["de"]}},
            "tenants": {
                "acme": {"max_concurrent": 1},
                "brief": {"max_tokens": 3, "prompt_tokens_per_minute": 60},
                "locked": {"keys": [hash_key(OLD_KEY), hash_key(KEY)]},
            },
            "limits": {"max_concurrent_streams": 2, "max_prompt_bytes": 100_000, "max_tokens": 50},
        }
    )
    tokenizer = byte_tokenizer(tmp_path, "{% for m in messages %}{{ m['content'] }}\n{% endfor %}")
    ids = tokenizer.encode_prompt(ANSWER)
    clock = FakeClock()
    fleet = FakeFleet(clock, [FakeTarget("t1", ids)], [FakeDrafter("d1", ids)])
    budgets = Budgets(no_ledger, clock)
    return GenerationService(config, TargetFacts(259, 200), tokenizer, FakeDetector(), fleet, budgets, clock)


async def collect(service: GenerationService, raw: RawRequest, **who: Any) -> list[Event]:
    return [event async for event in service.answer(raw, request_id="r", **who)]


async def test_language_is_detected_and_its_drafter_chosen(service: GenerationService) -> None:
    events = await collect(service, RawRequest(prompt=b"Wo ist das?"))

    assert isinstance(events[0], Started) and isinstance(events[-1], Finished)
    assert (events[0].language, events[0].drafter, events[0].prompt_tokens) == ("de", "de", 11)
    assert events[0].effective_seed != 0 and events[-1].figures.accepted > 0


async def test_chat_and_large_prompts_are_encoded(service: GenerationService) -> None:
    events = await collect(service, RawRequest(chat=(Turn("user", b"Hello"),), seed=0))

    assert isinstance(events[0], Started)
    assert (events[0].language, events[0].drafter, events[0].effective_seed) == ("und", "off", 0)
    with pytest.raises(ContextTooLong, match="50000 tokens"):
        await collect(service, RawRequest(prompt=b"x" * 50_000))


@pytest.mark.parametrize(
    ("raw", "error", "words"),
    [
        (RawRequest(), InvalidRequest, "prompt: empty"),
        (RawRequest(prompt=b""), InvalidRequest, "prompt: empty"),
        (RawRequest(chat=()), InvalidRequest, "chat: empty"),
        (RawRequest(chat=(Turn("", b"x"),)), InvalidRequest, "chat.messages[0].role: found ''"),
        (RawRequest(chat=(Turn("user", b"x"), Turn("a\n<|x|>", b"x"))), InvalidRequest, r"[1].role: found 'a\n<|x|>'"),
        (RawRequest(chat=(Turn("User", b"x"),)), InvalidRequest, "role: found 'User'"),
        (RawRequest(chat=(Turn("u" * 33, b"x"),)), InvalidRequest, "at most 32 lower-case letters"),
        (
            RawRequest(chat=(Turn("user", b"x"),) * 1_025),
            InvalidRequest,
            "chat.messages: found 1025; give at most 1024",
        ),
        (
            RawRequest(chat=(Turn("user", b"x"), Turn("user", b"ab\xe9"))),
            InvalidRequest,
            "[1].content: not valid UTF-8 at byte 2",
        ),
        (RawRequest(prompt=b"x" * 200), ContextTooLong, "200 tokens; the context holds 200"),
        (RawRequest(prompt=b"x" * 100_001), InvalidRequest, "100001 bytes"),
        (RawRequest(prompt=b"ok \xff\xfe"), InvalidRequest, "prompt: not valid UTF-8 at byte 3"),
        (RawRequest(prompt=b"half a \xf0\x9f\x9a"), InvalidRequest, "prompt: not valid UTF-8 at byte 7"),
        (RawRequest(prompt=b"surrogate \xed\xa0\x80"), InvalidRequest, "prompt: not valid UTF-8 at byte 10"),
        (RawRequest(prompt=b"x", stop=(b"\xff",)), InvalidRequest, "stop[0]: not valid UTF-8 at byte 0"),
        (RawRequest(prompt=b"x", stop=(b"ok", b"no\xc3")), InvalidRequest, "stop[1]: not valid UTF-8 at byte 2"),
        (RawRequest(prompt=b"x", stop=(b"",)), InvalidRequest, "stop[0]: a string of 0 bytes"),
        (RawRequest(prompt=b"x", stop=(b"y" * 1_025,)), InvalidRequest, "stop[0]: a string of 1025 bytes"),
        (RawRequest(prompt=b"x", stop=(b"a",) * 17), InvalidRequest, "stop: found 17"),
        (RawRequest(prompt=b"x", language="xx"), UnsupportedLanguage, "'xx' is not served"),
        (RawRequest(prompt=b"x", speculation="nope"), UnknownDrafter, "nope"),
        (RawRequest(prompt=b"x", language="de\r\n"), UnsupportedLanguage, r"'de\r\n' is not a language tag"),
        (RawRequest(prompt=b"x", language="d" * 65), InvalidRequest, "language: found 65 characters; give at most 64"),
        (RawRequest(prompt=b"x", speculation="d" * 65), InvalidRequest, "speculation: found 65 characters"),
        (RawRequest(prompt=b"x", max_tokens=0), InvalidRequest, "max_tokens: found 0"),
        (RawRequest(prompt=b"x", max_tokens=51), InvalidRequest, "max_tokens: found 51"),
        (RawRequest(prompt=b"x", temperature=-0.5), InvalidRequest, "temperature: found -0.5"),
        (RawRequest(prompt=b"x", temperature=float("nan")), InvalidRequest, "temperature: found nan"),
        (RawRequest(prompt=b"x", temperature=float("inf")), InvalidRequest, "temperature: found inf"),
        (RawRequest(prompt=b"x", top_p=0.0), InvalidRequest, "top_p: found 0.0"),
        (RawRequest(prompt=b"x", top_p=1.5), InvalidRequest, "top_p: found 1.5"),
        (RawRequest(prompt=b"x", top_p=float("nan")), InvalidRequest, "top_p: found nan"),
        (RawRequest(prompt=b"x", time_budget_s=-1), InvalidRequest, "time_budget_s: found -1"),
        (RawRequest(prompt=b"x", max_draft_tokens=0), InvalidRequest, "max_draft_tokens: found 0"),
        (RawRequest(prompt=b"x", not_built=("min_p", "n")), NotImplementedYet, "min_p, n: declared"),
        (RawRequest(prompt=b"x", resume=RawResume((5,), 0, "n1")), InvalidRequest, "effective_seed: missing"),
        (RawRequest(prompt=b"x", resume=RawResume((5,), 3, "")), InvalidRequest, "numerics_id: missing"),
        (RawRequest(prompt=b"x", seed=4, resume=RawResume((5,), 3, "n1")), InvalidRequest, "differs from seed 4"),
        (RawRequest(prompt=b"x", resume=RawResume((259,), 3, "n1")), InvalidRequest, "259 is outside"),
        (RawRequest(prompt=b"x", max_tokens=1, resume=RawResume((5, 6), 3, "n1")), InvalidRequest, "2 tokens exceed"),
        (
            RawRequest(prompt=b"x", resume=RawResume((5,) * 51, 3, "n1")),
            InvalidRequest,
            "token_ids: found 51; give at most 50",
        ),
        (RawRequest(prompt=b"x", resume=RawResume((5,), 3, "n" * 65)), InvalidRequest, "numerics_id: found 65"),
        (
            RawRequest(prompt=b"x", resume=RawResume((5,), 3, "n1", 2**64 - 1)),
            InvalidRequest,
            "next_round: found 184467",
        ),
        (RawRequest(prompt=b"x", resume=RawResume((5,), 3, "n9")), TargetChanged, "begin the answer again"),
    ],
)
async def test_bad_input_is_refused_by_name_and_the_next_request_is_served(
    service: GenerationService, raw: RawRequest, error: type[PolydraftError], words: str
) -> None:
    with pytest.raises(error) as caught:
        await collect(service, raw)

    assert type(caught.value) is error and words in caught.value.message
    assert len(caught.value.message) < 200 and caught.value.message.isprintable()
    assert service.admission.num_streams == 0
    assert isinstance((await collect(service, RawRequest(prompt=b"Wo?")))[-1], Finished)


async def test_resume_goes_on_where_the_tokens_end(service: GenerationService) -> None:
    whole = await collect(service, RawRequest(prompt=b"Wo?", seed=0))
    ids = [token for event in whole[1:-1] for token in event.token_ids]  # type: ignore[union-attr]

    rest = await collect(service, RawRequest(prompt=b"Wo?", seed=0, resume=RawResume(tuple(ids[:4]), 0, "n1", 2)))

    assert [token for event in rest[1:-1] for token in event.token_ids] == ids[4:]  # type: ignore[union-attr]


async def test_streams_are_bounded_for_each_tenant_and_in_all(service: GenerationService) -> None:
    raw = RawRequest(prompt=b"Wo?")
    async with aclosing(service.answer(raw, request_id="a", tenant_name="acme")) as first:
        await anext(first)
        with pytest.raises(Overloaded, match="tenant 'acme' is at its limit of 1 streams"):
            await collect(service, raw, tenant_name="acme")
        async with aclosing(service.answer(raw, request_id="b")) as second:
            await anext(second)
            with pytest.raises(Overloaded, match="all 2 streams"):
                await collect(service, raw)

    assert service.admission.num_streams == 0
    await collect(service, raw, tenant_name="acme")


async def test_a_tenant_has_limits_of_its_own(service: GenerationService) -> None:
    with pytest.raises(InvalidRequest, match="max_tokens: found 4; give 1 to 3"):
        await collect(service, RawRequest(prompt=b"Wo?", max_tokens=4), tenant_name="brief")
    *_, finished = await collect(service, RawRequest(prompt=b"Wo?"), tenant_name="brief")
    assert isinstance(finished, Finished) and finished.completion_tokens == 3

    with pytest.raises(Overloaded, match="limit of 60 prompt tokens a minute") as caught:
        await collect(service, RawRequest(prompt=b"Wo?"), tenant_name="brief")

    assert caught.value.retry_after_s == pytest.approx(2.1, abs=0.1)  # three tokens, of which one was there
    assert service.admission.num_streams == 0


async def test_tenants_are_known_and_hold_their_key(service: GenerationService) -> None:
    raw = RawRequest(prompt=b"Wo?")

    await collect(service, raw, tenant_name="locked", key=KEY)
    messages = set()
    for who in ({"tenant_name": "nobody"}, {"tenant_name": "locked"}, {"tenant_name": "locked", "key": "wrong"}):
        with pytest.raises(Unauthenticated) as caught:
            await collect(service, raw, **who)
        messages.add(caught.value.message)
    assert len(messages) == 1


async def test_reader_that_takes_nothing_is_cancelled(service: GenerationService) -> None:
    async def never(event: Event) -> None:
        await asyncio.Event().wait()

    with pytest.raises(Cancelled, match="nothing was read"):
        await deliver(service.answer(RawRequest(prompt=b"Wo?"), request_id="r"), never, slow_reader_s=0.01)

    assert service.admission.num_streams == 0


def test_lease_ends_after_silence_alone() -> None:
    lease = Lease(5.0, heard_at=10.0)

    assert not lease.is_lost(15.0) and lease.is_lost(15.1)
    lease.renew(15.0)
    lease.renew(12.0)
    assert not lease.is_lost(20.0)
