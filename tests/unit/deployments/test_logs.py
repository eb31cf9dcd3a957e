"""Log lines of calls: whose they are stands in them, what was asked does not."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.budgets import Budgets
from cluster.config import Config
from cluster.errors import PolydraftError
from cluster.keys import hash_key
from cluster.logs import OURS, CallLog, configure, log_about
from cluster.model_files import TargetFacts
from cluster.observing_config import LoggingConfig
from cluster.service import GenerationService
from deployments.generation import Generation
from protos.v1 import generate_pb2 as pb
from tests.unit.cluster.fakes import FakeClock, FakeDrafter, FakeFleet, FakeTarget, byte_tokenizer, no_ledger

SECRET, KEY = "xylophone", "open-sesame-4711"


class Detector:
    """Fails on one prompt, with a message that quotes it, as libraries do."""

    def detect(self, text: str) -> None:
        if "fail" in text:
            raise ValueError(f"cannot detect {text!r}")


@pytest.fixture
def generation(tmp_path: Path) -> Generation:
    config = Config.model_validate(
        {
            "target": {"model": "m"},
            "drafters": {"de": {"method": "lm", "model": "d", "languages": ["de"]}},
            "tenants": {"acme": {"keys": [hash_key(KEY)]}},
        }
    )
    tokenizer, clock = byte_tokenizer(tmp_path), FakeClock()
    ids = tokenizer.encode_prompt("A clarinet.")
    fleet = FakeFleet(clock, [FakeTarget("t1", ids)], [FakeDrafter("d1", ids)])
    budgets = Budgets(no_ledger, clock)
    facts = TargetFacts(259, 200)
    return Generation(GenerationService(config, facts, tokenizer, Detector(), fleet, budgets, clock, CallLog(clock)))


@pytest.fixture(autouse=True)
def restored_loggers() -> Iterator[None]:
    before = [(logging.getLogger(name), logging.getLogger(name).__dict__.copy()) for name in OURS]
    yield
    log_about()
    for package, attributes in before:
        package.__dict__.update(attributes)


async def _ask(generation: Generation, prompt: str, key: str = KEY, language: str = "") -> None:
    request = pb.GenerateRequest(prompt=prompt.encode(), language=language)
    metadata = {"polydraft-tenant": "acme", "polydraft-key": key}
    async for _ in generation.answer(request, metadata):
        pass


async def _lines(generation: Generation, form: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is logged of a whole answer, a refused one, one without the right key, and a crash."""
    configure(LoggingConfig(format=form, level="DEBUG"), "router-1")  # type: ignore[arg-type]  # one of both
    await _ask(generation, f"Hello {SECRET}", language="de")
    for prompt, key, language in (
        (f"Hello {SECRET}", KEY, "xx"),
        (f"Hello {SECRET}", f"not-{KEY}", ""),
        (f"fail {SECRET}", KEY, ""),
    ):
        with pytest.raises(PolydraftError):
            await _ask(generation, prompt, key, language)
    return capsys.readouterr().err


async def test_json_lines_say_which_request_they_are_about(
    generation: Generation, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in (await _lines(generation, "json", capsys)).splitlines()]

    ended = [line for line in lines if line["message"].startswith("call ended")]
    assert [line["message"].split()[2].strip(",") for line in ended] == ["OK", "UNSUPPORTED_LANGUAGE", "INTERNAL"]
    assert [line.get("language") for line in ended] == ["de", None, None]
    assert all(line["tenant"] == "acme" and len(line["request_id"]) == 16 for line in ended)
    assert len({line["request_id"] for line in ended}) == 3
    (opened, *_) = [line for line in lines if line["message"] == "opened at target t1"]
    assert opened["request_id"] == ended[0]["request_id"] and opened["language"] == "de"
    assert [line["level"] for line in lines if "exception" in line] == ["ERROR"]
    assert {line["process"] for line in lines} == {"router-1"}


@pytest.mark.parametrize("form", ["json", "text"])
async def test_neither_prompts_nor_keys_nor_answers_are_logged(
    generation: Generation, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = await _lines(generation, form, capsys)

    assert "call refused: UNAUTHENTICATED" in text
    assert "builtins.ValueError" in text and "in detect" in text  # where it came from is told
    for secret in (SECRET, KEY, "clarinet"):
        assert secret not in text


def test_what_is_about_no_request_keeps_its_exceptions_message(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LoggingConfig(level="WARNING"), "target-1")
    logger = logging.getLogger("deployments.anything")
    logger.info("not told")
    try:
        raise ValueError("the disk is full")
    except ValueError:
        logger.exception("the drafter stopped")

    text = capsys.readouterr().err
    assert "ERROR target-1 deployments.anything: the drafter stopped" in text
    assert "ValueError: the disk is full" in text and "not told" not in text
