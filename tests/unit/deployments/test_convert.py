"""Every message survives the wire, and the two tables of errors agree."""

from __future__ import annotations

import re
from dataclasses import replace

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import errors
from cluster.config import LimitsConfig
from cluster.events import Chunk, Event, Figures, Finished, Started, TokenSource
from cluster.messages import (
    Block,
    Body,
    Close,
    Credit,
    FinishReason,
    GoAway,
    Heartbeat,
    Hello,
    LocalDraft,
    Message,
    Observe,
    Open,
    Resync,
    Sampling,
    Verdict,
)
from cluster.request import RawResume, check_fields
from deployments import status
from deployments.convert import frame_from_pb, frame_to_pb
from deployments.front import MAX_MESSAGE_BYTES
from deployments.public import event_to_pb, join_events, request_from_pb
from protos.v1 import generate_pb2 as pb
from protos.v1 import internal_pb2, types_pb2

ALL_ERRORS: list[type[errors.PolydraftError]] = [
    errors.InvalidRequest,
    errors.UnsupportedLanguage,
    errors.UnknownDrafter,
    errors.ContextTooLong,
    errors.NotImplementedYet,
    errors.Unauthenticated,
    errors.Overloaded,
    errors.Unavailable,
    errors.TargetChanged,
    errors.Cancelled,
    errors.DeadlineExceeded,
    errors.InternalError,
]

u32 = st.integers(0, (1 << 32) - 1)
u64 = st.integers(0, (1 << 64) - 1)
ids = st.lists(u32, max_size=5).map(tuple)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
local = st.builds(LocalDraft, text, u32)
error = st.none() | st.builds(lambda kind, message: kind(message), st.sampled_from(ALL_ERRORS), text)
finish = st.none() | st.sampled_from(FinishReason)
number = st.floats(allow_nan=False)
data = st.binary(max_size=9)
bodies: st.SearchStrategy[Body] = st.one_of(
    st.builds(Hello, text, text, text, text, u32, u32, ids, u32),
    st.builds(
        Open,
        ids,
        u32,
        st.builds(Sampling, number, u32, number),
        u64,
        u64,
        u32,
        text,
        u32,
        text,
        st.none() | local,
        *[u32] * 2,
    ),
    st.builds(Block, u64, u64, data, drafter_version=text),
    st.builds(Block, u64, u64, st.just(b""), local),
    st.builds(Verdict, u64, ids, u32, u32, u64, u64, u64, u32, finish, st.booleans(), st.booleans(), error, u32, data),
    st.builds(Resync, u64),
    st.builds(Credit, u32),
    st.builds(Heartbeat, u32, u32, u32, st.booleans()),
    st.builds(GoAway, number),
    st.builds(Close, error),
    st.builds(Observe, u64, ids, u32, u32, st.booleans(), data, st.booleans()),
)


def comparable(message: Message) -> str:
    """Errors compare by identity; their representation has type and message."""
    return repr(message)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.builds(Message, u64, u32, bodies), max_size=4))
def test_messages_survive_the_wire(messages: list[Message]) -> None:
    received = internal_pb2.Frame.FromString(frame_to_pb(messages).SerializeToString())

    assert [comparable(m) for m in frame_from_pb(received)] == [comparable(m) for m in messages]


def test_strategies_cover_every_body() -> None:
    names = {field.name for field in internal_pb2.Message.DESCRIPTOR.oneofs_by_name["body"].fields}

    assert len(names) == len(Body.__args__) == 10


def test_messages_of_a_later_version_are_left_out() -> None:
    frame = internal_pb2.Frame(messages=[internal_pb2.Message(session=1), internal_pb2.Message(credit={"tokens": 2})])

    assert frame_from_pb(frame) == [Message(0, 0, Credit(2))]


@pytest.mark.parametrize("kind", ALL_ERRORS)
def test_error_table_both_ways(kind: type[errors.PolydraftError]) -> None:
    value = types_pb2.ErrorCode.Value(status.code_to_pb(kind("why")))
    back = status.error_from_pb(value, "why")  # type: ignore[arg-type]  # protobuf's stubs tell int

    assert type(back) is kind and back.message == "why"
    assert status.trailing_metadata(kind("why"))[0] == ("polydraft-error", kind.code)
    assert status.status_of(kind("why")) is not grpc.StatusCode.UNKNOWN


def test_who_is_refused_for_load_hears_when_to_come_back() -> None:
    error = errors.Overloaded("full", retry_after_s=0.0301)

    assert status.trailing_metadata(error)[1] == ("grpc-retry-pushback-ms", "31")


def test_error_table_is_complete() -> None:
    declared = {name.removeprefix("ERROR_CODE_") for name in types_pb2.ErrorCode.DESCRIPTOR.values_by_name} - {
        "UNSPECIFIED"
    }

    assert declared == {kind.code for kind in ALL_ERRORS}


def test_status_of_each_code_is_what_the_contract_says() -> None:
    told = {kind.code: status.status_of(kind("x")).name for kind in ALL_ERRORS}

    assert told["INVALID_REQUEST"] == told["UNSUPPORTED_LANGUAGE"] == told["CONTEXT_TOO_LONG"] == "INVALID_ARGUMENT"
    assert (told["OVERLOADED"], told["TARGET_CHANGED"]) == ("RESOURCE_EXHAUSTED", "ABORTED")
    assert (told["NOT_IMPLEMENTED"], told["DEADLINE"]) == ("UNIMPLEMENTED", "DEADLINE_EXCEEDED")


def test_unknown_error_code_is_an_internal_error() -> None:
    assert isinstance(status.error_from_pb(99, "x"), errors.InternalError)  # type: ignore[arg-type]


def test_request_fields_and_their_absence() -> None:
    bare = request_from_pb(pb.GenerateRequest(prompt=b"x"))
    full = request_from_pb(
        pb.GenerateRequest(
            chat=pb.ChatMessages(messages=[pb.ChatMessage(role="user", content=b"\xff")]),
            language="de",
            max_tokens=0,
            sampling=types_pb2.Sampling(temperature=0.0, top_k=3, top_p=0.5),
            seed=0,
            stop=[b"a"],
            time_budget_s=2.5,
            speculation="off",
            max_draft_tokens=4,
            resume=pb.Resume(token_ids=[1], effective_seed=2, numerics_id="n", next_round=3, text_bytes=4),
            min_p=0.0,
            logit_bias={1: 2.0},
        )
    )

    assert (bare.prompt, bare.chat, bare.max_tokens, bare.temperature, bare.top_p) == (b"x", None, None, None, None)
    assert (bare.seed, bare.max_draft_tokens, bare.resume, bare.not_built) == (None, None, None, ())
    assert not bare.stop
    assert full.prompt is None and full.chat is not None
    assert [(turn.role, turn.content) for turn in full.chat] == [("user", b"\xff")]
    assert (full.language, full.max_tokens, full.temperature, full.top_k, full.top_p) == ("de", 0, 0.0, 3, 0.5)
    assert (full.seed, list(full.stop), full.time_budget_s, full.speculation) == (0, [b"a"], 2.5, "off")
    assert full.max_draft_tokens == 4
    assert full.resume is not None
    assert replace(full.resume, token_ids=tuple(full.resume.token_ids)) == RawResume((1,), 2, "n", 3, 4)
    assert full.not_built == ("min_p", "logit_bias")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.GenerateRequest(chat=pb.ChatMessages.FromString(b"\x0a\x00" * 2_000_000)), "chat.messages: found 2000000"),
        (pb.GenerateRequest(prompt=b"x", stop=[b""] * 1_000_000), "stop: found 1000000"),
        (
            pb.GenerateRequest(prompt=b"x", resume=pb.Resume(token_ids=bytes(4_000_000))),
            "token_ids: found 4000000",
        ),
    ],
    ids=["chat", "stop", "resume"],
)
def test_what_is_there_millions_of_times_is_refused_by_its_number(request_: pb.GenerateRequest, field: str) -> None:
    assert request_.ByteSize() < MAX_MESSAGE_BYTES  # or the transport had refused it

    with pytest.raises(errors.InvalidRequest, match=re.escape(field)):
        check_fields(request_from_pb(request_), LimitsConfig(), longest=100)


def test_events_join_to_the_response() -> None:
    events: list[Event] = [
        Started("r", 7, "t", "n", "de", "off", 3),
        Chunk(0, (5, 6), "\u00e9a", (TokenSource.TARGET, TokenSource.DRAFTER), 1),
        Chunk(2, (7,), "b", (TokenSource.TARGET,), 2),
        Finished(FinishReason.STOP, 3, 3, Figures(2, 4, 1, 0, 1, "de@acme.3"), cached_prompt_tokens=2),
    ]

    response = join_events([event_to_pb(event) for event in events])

    assert response.text.decode() == "\u00e9ab" and list(response.token_ids) == [5, 6, 7]
    assert response.started.effective_seed == 7 and response.finished.usage.completion_tokens == 3
    assert response.finished.usage.cached_prompt_tokens == 2
    assert response.finished.finish_reason == types_pb2.FINISH_REASON_STOP
    assert response.finished.speculation.failovers == 1
    assert response.finished.speculation.drafter_version == "de@acme.3"
