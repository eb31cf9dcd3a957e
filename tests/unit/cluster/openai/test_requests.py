"""Bodies of the OpenAI API: what they mean, and which field is named when they cannot be served."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.openai.calls import Turn, calls_of, choice_seed
from cluster.openai.errors import Refused
from cluster.openai.requests import ChatBody, CompletionBody, read_body
from cluster.request import RawRequest

SEED = 77


def completion(**fields: Any) -> CompletionBody:
    return read_body(CompletionBody, json.dumps({"model": "m", "prompt": "x"} | fields).encode())


def chat(**fields: Any) -> ChatBody:
    asked = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    return read_body(ChatBody, json.dumps(asked | fields).encode())


def test_absent_fields_have_openais_defaults() -> None:
    (call,) = calls_of(completion(), SEED)

    assert call.raw == RawRequest(prompt=b"x", max_tokens=16, temperature=1.0, top_p=1.0, seed=SEED)
    assert calls_of(completion(seed=None, stop=None, n=None), SEED) == [call]
    assert calls_of(chat(), SEED)[0].raw.max_tokens is None


def test_every_field_arrives() -> None:
    (call,) = calls_of(
        completion(
            max_tokens=5,
            temperature=0,
            top_p=0.5,
            seed=-1,
            stop="end",
            logprobs=2,
            language="de",
            speculation="off",
            max_draft_tokens=3,
            time_budget_s=1.5,
            top_k=9,
        ),
        SEED,
    )

    assert call.raw == RawRequest(
        prompt=b"x",
        language="de",
        max_tokens=5,
        temperature=0.0,
        top_k=9,
        top_p=0.5,
        seed=(1 << 64) - 1,
        stop=(b"end",),
        time_budget_s=1.5,
        speculation="off",
        max_draft_tokens=3,
        logprobs=2,
    )


def test_a_chat_has_turns() -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "assistant", "content": "a", "refusal": None, "tool_calls": None},
        {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
    ]
    (call,) = calls_of(chat(messages=messages, max_completion_tokens=4, logprobs=True, top_logprobs=3), SEED)

    assert call.raw.chat == (Turn("system", b"Be brief."), Turn("assistant", b"a"), Turn("user", b"b\nc"))
    assert (call.raw.max_tokens, call.raw.logprobs) == (4, 3)
    assert calls_of(chat(logprobs=True), SEED)[0].raw.logprobs == 0


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a", [(b"a", None)]),
        (["a", "b"], [(b"a", None), (b"b", None)]),
        ([1, 2], [(None, (1, 2))]),
        ([[1], [2, 3]], [(None, (1,)), (None, (2, 3))]),
    ],
)
def test_prompts_come_as_text_or_tokens(prompt: object, expected: list[object]) -> None:
    assert [(call.raw.prompt, call.raw.prompt_ids) for call in calls_of(completion(prompt=prompt), SEED)] == expected


def test_choices_of_a_prompt_differ_by_seed_alone_and_no_prompt_depends_on_its_neighbours() -> None:
    calls = calls_of(completion(prompt=["a", "b"], n=3, seed=5), SEED)

    assert [call.index for call in calls] == [*range(6)]
    assert [call.group for call in calls] == [0, 0, 0, 1, 1, 1]
    seeds = [call.raw.seed for call in calls]
    assert seeds[:3] == seeds[3:] == [5, choice_seed(5, 1), choice_seed(5, 2)] and len(set(seeds)) == 3
    assert all(choice_seed(seed, 1) < 1 << 53 for seed in range(100))


def test_what_asks_for_nothing_is_no_reason_to_refuse() -> None:
    completion(user="u", echo=False, best_of=1, presence_penalty=0.0, logit_bias={}, suffix="", metadata={"a": "b"})
    chat(tools=[], response_format={"type": "text"}, store=False, parallel_tool_calls=True, function_call="none")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"prompt": None}, "prompt", "missing_required_parameter"),
        ({"model": 5}, "model", "invalid_type"),
        ({"foo": 1}, "foo", "unknown_parameter"),
        ({"messages": []}, "messages", "unknown_parameter"),
        ({"echo": True}, "echo", "unsupported_parameter"),
        ({"best_of": 2}, "best_of", "unsupported_parameter"),
        ({"presence_penalty": 0.5}, "presence_penalty", "unsupported_parameter"),
        ({"prompt": []}, "prompt", "invalid_value"),
        ({"prompt": ["a", 1]}, "prompt", "invalid_value"),
        ({"prompt": [[]]}, "prompt", "invalid_value"),
        ({"prompt": [True]}, "prompt", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 100, "prompt": ["a", "b"]}, "prompt", "invalid_value"),
        ({"seed": 1 << 64}, "seed", "invalid_value"),
        ({"seed": 1.5}, "seed", "invalid_type"),
        ({"stop": 5}, "stop", "invalid_value"),
        ({"logprobs": 6}, "logprobs", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"stream": True, "stream_options": {"include": 1}}, "stream_options.include", "unknown_parameter"),
    ],
)
def test_refusals_name_the_field_of_a_completion(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(Refused) as raised:
        completion(**fields)
    reply = raised.value.reply
    assert (reply.status, reply.type, reply.param, reply.code) == (400, "invalid_request_error", param, code)
    assert f"'{param}'" in reply.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"max_tokens": 3, "max_completion_tokens": 3}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "a", "name": "b"}]}, "messages[0].name"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
    ],
)
def test_refusals_name_the_field_of_a_chat(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Refused) as raised:
        calls_of(chat(**fields), SEED)
    assert raised.value.reply.param == param


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"null", b'{"a": NaN}', b"\xff", b"[" * 100_000])
def test_bodies_that_are_none(data: bytes) -> None:
    with pytest.raises(Refused) as raised:
        read_body(CompletionBody, data)
    assert raised.value.reply.status == 400


def test_a_refusal_quotes_little_of_what_it_was_sent() -> None:
    with pytest.raises(Refused) as raised:
        completion(**{"x\n" * 100_000: 1})
    assert len(raised.value.reply.message) < 500 and "\n" not in raised.value.reply.message


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "role"]), inner),
    max_leaves=6,
)
NAMES = st.sampled_from(
    [*CompletionBody.model_fields, *ChatBody.model_fields, "top_logprobs", "tools", "echo", "user", "other"]
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(st.dictionaries(NAMES, VALUES, max_size=4), st.booleans())
def test_whatever_a_body_holds_is_taken_or_refused(fields: dict[str, Any], is_chat: bool) -> None:
    try:
        calls = calls_of((chat if is_chat else completion)(**fields), SEED)
    except Refused as refused:
        assert refused.reply.status == 400 and refused.reply.message
    else:
        assert 1 <= len(calls) <= 128
