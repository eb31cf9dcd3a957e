"""What the OpenAI API tells of events, whole and as a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from cluster import errors
from cluster.events import Chunk, Event, Figures, Finished, Started, TokenSource
from cluster.messages import FinishReason, TokenLogprobs
from cluster.openai.choices import Choice, interleaved
from cluster.openai.errors import error_reply
from cluster.openai.replies import Kind, Reply
from cluster.openai.token_texts import TokenTexts
from cluster.text import Tokenizer
from tests.conftest import ROOT
from tests.unit.cluster.fakes import byte_tokenizer

TARGET = ROOT / "models" / "target"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return byte_tokenizer(tmp_path)


def events_of(tokenizer: Tokenizer, pieces: list[str], logprobs: bool = False) -> list[Event]:
    """An answer whose chunks have these texts."""
    events: list[Event] = [Started("r", 7, "t", "n1", "de", "off", 3)]
    first = 0
    for piece in pieces:
        ids = tuple(tokenizer.backend.encode(piece, add_special_tokens=False).ids)
        told = tuple(TokenLogprobs(-0.5, (id, 65), (-0.5, -float("inf"))) for id in ids) if logprobs else ()
        events.append(Chunk(first, ids, piece, (TokenSource.TARGET,) * len(ids), 1, told))
        first += len(ids)
    return [*events, Finished(FinishReason.EOS, 3, first, Figures(rounds=2), 1)]


def reply(tokenizer: Tokenizer, kind: Kind, groups: dict[int, int] | None = None, usage: bool = False) -> Reply:
    texts = TokenTexts(tokenizer)
    return Reply(kind, "x", 5, "m", groups or {0: 0}, tokenizer, texts, includes_usage=usage)


@pytest.mark.parametrize("kind", Kind)
def test_a_stream_tells_what_the_whole_answer_does(tokenizer: Tokenizer, kind: Kind) -> None:
    whole, stream = reply(tokenizer, kind), reply(tokenizer, kind, usage=True)
    chunks: list[dict[str, Any]] = []
    for event in events_of(tokenizer, ["Hi, ", "\u00fc", "!"], logprobs=True):
        whole.add(0, event)
        chunks += stream.chunks(0, event, stream.add(0, event))
    chunks = json.loads(json.dumps([*chunks, *stream.end()], allow_nan=False))
    answer: dict[str, Any] = json.loads(json.dumps(whole.whole(), allow_nan=False))

    assert {chunk["id"] for chunk in chunks} == {answer["id"]} == {kind.value[2] + "x"}
    said = [chunk["choices"][0] for chunk in chunks[:-1]]
    (choice,) = answer["choices"]
    if kind is Kind.CHAT:
        assert choice["message"]["content"] == "".join(one["delta"].get("content", "") for one in said) == "Hi, \u00fc!"
        assert said[0]["delta"]["role"] == "assistant"
        told = [entry for one in said if one["logprobs"] for entry in one["logprobs"]["content"]]
        assert choice["logprobs"]["content"] == told
        assert bytes(byte for entry in told for byte in entry["bytes"]).decode() == "Hi, \u00fc!"
        assert told[0]["top_logprobs"][1] == {"token": tokenizer.decode([65]), "logprob": -9999.0} | {
            "bytes": [*tokenizer.decode([65]).encode()]
        }
    else:
        assert choice["text"] == "".join(one["text"] for one in said) == "Hi, \u00fc!"
        assert choice["logprobs"]["text_offset"] == [0, 1, 2, 3, 4, 4, 5]
        assert choice["logprobs"]["tokens"][4:6] == ["bytes:\\xc3", "bytes:\\xbc"]
    assert [one["finish_reason"] for one in said] == [None] * (len(said) - 1) + ["stop"]
    assert chunks[-1]["usage"] == answer["usage"] and all(chunk["usage"] is None for chunk in chunks[:-1])
    assert answer["usage"]["total_tokens"] == 3 + 7
    assert answer["system_fingerprint"] == "n1"
    assert answer["polydraft"]["choices"][0]["speculation"]["rounds"] == 2
    assert chunks[-2]["polydraft"] == answer["polydraft"]


def test_usage_counts_a_prompt_once(tokenizer: Tokenizer) -> None:
    whole = reply(tokenizer, Kind.COMPLETION, {0: 0, 1: 0, 2: 1})
    for index in (2, 1, 0):
        for event in events_of(tokenizer, ["ab"]):
            whole.add(index, event)

    answer: dict[str, Any] = whole.whole()
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (6, 6)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]


def test_the_bytes_of_tokens_join_to_the_text() -> None:
    target = Tokenizer(TARGET)
    texts = TokenTexts(target)
    text = " Wo ist der Bahnhof? \u6771\u4eac\u3067\u3059 \u041f\u0440\u0438\u0432\u0435\u0442 \U0001f682"

    ids = target.encode_prompt(text)

    own = [id for id in ids if id not in target.special_ids]
    assert b"".join(texts.bytes_of(id) for id in own).decode() == text
    assert texts.bytes_of(10**6) == b""


async def slowly(name: str, said: list[str], pieces: int = 2) -> AsyncGenerator[Event, None]:
    said.append(f"{name} begins")
    try:
        yield Started(name, 7, "t", "n1", "de", "off", 3)
        for number in range(pieces):
            await asyncio.sleep(0)
            said.append(f"{name} {number}")
            yield Chunk(number, (1,), name, (TokenSource.TARGET,), 1)
        if name == "bad":
            raise errors.Unavailable("gone")
        yield Finished(FinishReason.EOS, 3, pieces, Figures())
    finally:
        said.append(f"{name} ends")


async def test_choices_of_a_prompt_begin_when_the_first_has_read_it() -> None:
    said: list[str] = []
    choices = [Choice(0, 0, slowly("a", said)), Choice(1, 0, slowly("b", said)), Choice(2, 1, slowly("c", said))]

    told = [item async for item in interleaved(choices)]

    assert said.index("b begins") > said.index("a 0") and said.index("c begins") < said.index("b begins")
    for number in range(3):
        assert [type(event) for index, event in told if index == number] == [Started, Chunk, Chunk, Finished]


async def test_one_that_fails_ends_the_others() -> None:
    said: list[str] = []
    choices = [Choice(0, 0, slowly("a", said, 1_000)), Choice(1, 1, slowly("bad", said))]

    with pytest.raises(errors.Unavailable):
        async for _ in interleaved(choices):
            pass

    assert "a ends" in said and "a 999" not in said


async def test_whoever_reads_slowly_slows_all_choices() -> None:
    said: list[str] = []
    events = interleaved([Choice(0, 0, slowly("a", said, 1_000)), Choice(1, 1, slowly("b", said, 1_000))])
    await anext(events)
    for _ in range(500):
        await asyncio.sleep(0)
    assert len(said) < 10
    await events.aclose()
    assert "a ends" in said and "b ends" in said


@pytest.mark.parametrize(
    ("error", "status", "param", "code"),
    [
        (errors.InvalidRequest("sampling.top_p: found 3"), 400, "top_p", "invalid_value"),
        (errors.InvalidRequest("chat.messages[2].role: found"), 400, "messages[2].role", "invalid_value"),
        (errors.ContextTooLong("prompt: 9 tokens"), 400, "prompt", "context_length_exceeded"),
        (errors.Unauthenticated("tenant: unknown"), 401, None, "invalid_api_key"),
        (errors.Unavailable("no target"), 503, None, "unavailable"),
        (errors.InternalError("internal error"), 500, None, "internal_error"),
    ],
)
def test_errors_have_openais_form(error: errors.PolydraftError, status: int, param: str | None, code: str) -> None:
    found = error_reply(error)
    assert (found.status, found.param, found.code) == (status, param, code)
    assert set(found.body) == {"error"}


def test_limits_say_when_to_come_back() -> None:
    found = error_reply(errors.Overloaded("at its limit", retry_after_s=2.4))
    assert (found.status, found.headers) == (429, {"retry-after": "3"})


@pytest.mark.parametrize("kind", Kind)
def test_token_sources_are_told_if_asked_for_whole_and_as_a_stream(tokenizer: Tokenizer, kind: Kind) -> None:
    texts = TokenTexts(tokenizer)
    whole, stream = (Reply(kind, "x", 5, "m", {0: 0}, tokenizer, texts, tells_sources=True) for _ in range(2))
    writers = (TokenSource.DRAFTER, TokenSource.DRAFTER, TokenSource.TARGET)
    events: list[Event] = [
        Started("r", 7, "t", "n1", "de", "de", 3),
        Chunk(0, (72, 195, 188), "Hü", writers, 1, pieces=("H", "", "ü")),
        Chunk(3, (33,), "", (TokenSource.TARGET,), 2, pieces=("",)),  # held back for a stop string
        Chunk(4, (), "!", (), 2),
        Finished(FinishReason.EOS, 3, 4, Figures(rounds=2), 1),
    ]
    chunks: list[dict[str, Any]] = []
    for event in events:
        whole.add(0, event)
        chunks += stream.chunks(0, event, stream.add(0, event))

    expected = [("H", "drafter"), ("", "drafter"), ("ü", "target"), ("", "target")]
    told = [
        one for chunk in chunks for one in chunk.get("polydraft", {"choices": [{}]})["choices"][0].get("tokens", ())
    ]
    assert [(one["text"], one["source"]) for one in told] == expected
    answer: Any = whole.whole()
    assert answer["polydraft"]["choices"][0]["tokens"] == told
    assert answer["polydraft"]["choices"][0]["speculation"]["rounds"] == 2
