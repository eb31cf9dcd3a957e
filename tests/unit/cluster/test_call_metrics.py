"""What routers count of calls, and that no caller can make labels of their own."""

from __future__ import annotations

import random
import re
from contextlib import aclosing
from pathlib import Path

import pytest

from cluster import catalogue as metrics
from cluster.budgets import Budgets
from cluster.call_metrics import CallMetrics
from cluster.catalogue import CATALOGUE, Kind, Metric
from cluster.config import Config
from cluster.errors import Overloaded, PolydraftError, Unauthenticated
from cluster.keys import hash_key
from cluster.labels import MAX_NAMES, OTHER, Labels, Names
from cluster.measures import Measures
from cluster.model_files import TargetFacts
from cluster.request import RawRequest
from cluster.service import GenerationService
from tests.unit.cluster.fakes import FakeClock, FakeDrafter, FakeFleet, FakeTarget, byte_tokenizer, no_ledger

ANSWER = "An answer."


class NoDetector:
    def detect(self, text: str) -> None:
        return None


class Counted:
    """A service whose calls are counted, and what it counted."""

    def __init__(self, tmp_path: Path, fleet_lost_after: int | None = None) -> None:
        self.config = Config.model_validate(
            {
                "target": {"model": "m"},
                "drafters": {"de": {"method": "lm", "model": "d", "languages": ["de"]}},
                "tenants": {
                    "acme": {"keys": [hash_key("sesame")]},
                    "slow": {"prompt_tokens_per_minute": 1},
                },
            }
        )
        self.measures = Measures()
        tokenizer = byte_tokenizer(tmp_path)
        ids = tokenizer.encode_prompt(ANSWER)
        clock = FakeClock()
        self.call_metrics = CallMetrics(self.config, self.measures, clock)
        self.service = GenerationService(
            self.config,
            TargetFacts(259, 200),
            tokenizer,
            NoDetector(),
            FakeFleet(clock, [FakeTarget("t1", ids)], [FakeDrafter("d1", ids)]),
            Budgets(no_ledger, clock, self.call_metrics.hit_limit),
            clock,
            self.call_metrics,
        )

    async def ask(self, tenant: str = "", key: str = "", language: str = "", **fields: object) -> None:
        raw = RawRequest(prompt=b"Hello", language=language, **fields)  # type: ignore[arg-type]  # fields by name
        async for _ in self.service.answer(raw, request_id="r", tenant_name=tenant, key=key):
            pass

    def value(self, metric: Metric, *labels: str) -> float:
        return self.measures.total(metric, *labels).value


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    return Counted(tmp_path)


async def test_an_answer_is_counted_by_language_drafter_and_tenant(counted: Counted) -> None:
    await counted.ask("acme", "sesame", language="de")

    by = ("de", "de")
    assert counted.value(metrics.CALLS, "acme", "de", "OK") == 1
    assert counted.value(metrics.ANSWERS, *by, "eos") == 1
    assert counted.value(metrics.OUTPUT_TOKENS, *by) == len(ANSWER)
    assert counted.value(metrics.TENANT_OUTPUT_TOKENS, "acme") == len(ANSWER)
    assert counted.value(metrics.TENANT_PROMPT_TOKENS, "acme") == len("Hello")
    rounds, accepted = counted.value(metrics.ROUNDS, *by), counted.value(metrics.ACCEPTED_TOKENS, *by)
    assert 0 < rounds < len(ANSWER) and 0 < accepted <= counted.value(metrics.DRAFTED_TOKENS, *by)
    assert counted.measures.observations(metrics.FIRST_TOKEN, *by).count == 1
    assert counted.measures.observations(metrics.BETWEEN_TOKENS, *by).count == rounds
    assert counted.value(metrics.OPEN_STREAMS, "acme") == 0


async def test_refusals_are_counted_by_code_and_limit_and_open_streams_go_back(counted: Counted) -> None:
    with pytest.raises(Unauthenticated):
        await counted.ask("acme", "wrong")
    with pytest.raises(Unauthenticated):
        counted.service.check_caller("stranger", "")
    with pytest.raises(PolydraftError):
        await counted.ask(language="xx")
    await counted.ask("slow")
    with pytest.raises(Overloaded):
        await counted.ask("slow")
    async with aclosing(counted.service.answer(RawRequest(prompt=b"Hello"), request_id="r")) as events:
        await anext(events)
        assert counted.value(metrics.OPEN_STREAMS, "default") == 1

    assert counted.value(metrics.CALLS, "acme", "und", "UNAUTHENTICATED") == 1
    assert counted.value(metrics.CALLS, OTHER, "und", "UNAUTHENTICATED") == 1
    assert counted.value(metrics.CALLS, "default", "und", "UNSUPPORTED_LANGUAGE") == 1
    assert counted.value(metrics.CALLS, "slow", "und", "OVERLOADED") == 1
    assert counted.value(metrics.LIMITS_HIT, "slow", "prompt_tokens_per_minute") == 1
    assert counted.value(metrics.CALLS, "default", "und", "CANCELLED") == 1
    assert all(
        counted.value(metrics.OPEN_STREAMS, tenant) == 0 for tenant in (*counted.call_metrics.labels.tenants, OTHER)
    )


async def test_what_callers_send_makes_no_labels(counted: Counted) -> None:
    chance = random.Random(5)
    await counted.ask(language="de")
    before = {name for name, _, _ in counted.measures.samples()}

    for _ in range(200):
        word = "".join(chance.choices("abcxyz", k=3))
        with pytest.raises(PolydraftError):
            await counted.ask(word, word)
        with pytest.raises(PolydraftError):
            await counted.ask(language=word, speculation=word)

    labels = {label for _, labels, _ in counted.measures.samples() for label in labels}
    assert {name for name, _, _ in counted.measures.samples()} == before
    assert {label for label in labels if re.fullmatch("[abcxyz]{3}", label)} == set()
    assert counted.value(metrics.CALLS, OTHER, "und", "UNAUTHENTICATED") == 200


def test_tenants_that_come_and_go_are_bounded(counted: Counted) -> None:
    labels = Labels(counted.config)
    for number in range(3 * MAX_NAMES):
        tenants = {f"tenant-{number}": counted.config.tenants["slow"]}
        labels.use_tenants(counted.config.model_copy(update={"tenants": tenants}))

    assert len(labels.tenants) == MAX_NAMES
    assert labels.tenant("tenant-0") == "tenant-0"
    assert labels.tenant(f"tenant-{3 * MAX_NAMES - 1}") == OTHER


def test_names_that_come_from_elsewhere_are_bounded() -> None:
    names = Names()

    labels = {names.label(f"drafter-{number}") for number in range(3 * MAX_NAMES)}

    assert len(labels) == MAX_NAMES + 1 and OTHER in labels
    assert names.label("drafter-0") == "drafter-0"


@pytest.mark.parametrize("metric", CATALOGUE.values(), ids=lambda metric: metric.name)
def test_names_follow_the_conventions_of_prometheus(metric: Metric) -> None:
    assert re.fullmatch(r"polydraft_[a-z]+(_[a-z]+)*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert metric.kind is not Kind.HISTOGRAM or metric.name.endswith("_seconds")
    assert not re.search(r"_(ms|milliseconds|us|minutes|percent)(_|$)", metric.name)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert not {"deployment", "replica", "application"} & {*metric.labels}  # Serve's own
