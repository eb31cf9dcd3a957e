"""What counts as a fault, and that messages are drawn from all that the contracts declare, the same ones each time."""

from __future__ import annotations

from random import Random

import grpc
import pytest

from benchmarks.fuzz.calls import Call, Manner, Outcome
from benchmarks.fuzz.corpus import Corpus
from benchmarks.fuzz.internals import leak
from benchmarks.fuzz.messages import spoil, wild
from benchmarks.fuzz.public import METHODS, Known, draw_call
from benchmarks.fuzz.runs import Plan
from benchmarks.fuzz.verdicts import Kind, judged
from protos.v1 import generate_pb2 as pb

Status = grpc.StatusCode
CALL = Call("/a/B", (b"x",))


@pytest.mark.parametrize(
    ("outcome", "is_known", "expected"),
    [
        (Outcome(Status.OK, replies=[b"x"]), True, []),
        (Outcome(Status.INVALID_ARGUMENT, "prompt: empty"), True, []),
        (Outcome(Status.INTERNAL, "internal error"), True, [Kind.CRASH]),
        (Outcome(Status.UNKNOWN, "Unexpected <class 'TypeError'>: no"), True, [Kind.LEAK, Kind.CRASH]),
        (Outcome(Status.UNAVAILABLE, "gone"), True, [Kind.CRASH]),
        (Outcome(Status.CANCELLED), True, [Kind.CRASH]),
        (Outcome(None), True, [Kind.HANG]),
        (Outcome(Status.UNAUTHENTICATED), False, []),
        (Outcome(Status.UNIMPLEMENTED), False, []),
        (Outcome(Status.INVALID_ARGUMENT), False, [Kind.LET_IN]),
        (Outcome(Status.UNAUTHENTICATED, replies=[b"x"]), False, [Kind.LET_IN]),
        (Outcome(Status.OK), False, [Kind.LET_IN]),
    ],
)
def test_ends_of_calls_are_judged(outcome: Outcome, is_known: bool, expected: list[Kind]) -> None:
    assert [kind for kind, _ in judged(CALL, outcome, (), is_known=is_known)] == expected


def test_a_caller_that_leaves_is_told_so_by_its_own_side() -> None:
    leaving = Call("/a/B", (b"x",), manner=Manner.CANCEL)

    assert judged(leaving, Outcome(Status.CANCELLED), (), is_known=False) == []
    assert judged(leaving, Outcome(None), (), is_known=True) == []


@pytest.mark.parametrize(
    "told",
    [
        'File "a.py", line 3',
        "see /usr/lib",
        "connect to 10.0.0.7:50051",
        "ipv6:%5B::1%5D:80",
        "google.protobuf.message.DecodeError",
        "pid 4711",
        "<Task object at 0x7f3a5c0de1>",
        "deployments.front failed",
    ],
)
def test_internals_are_known_unless_the_caller_sent_them(told: str) -> None:
    assert leak(told) is not None
    assert leak(told, asked=told) is None


@pytest.mark.parametrize(
    "told",
    [
        "internal error; the log has the details under request id 5f0c1d2e3a4b5c6d",
        "language: 'xx' is not served; served: de, fr",
        "SERVER: Received message larger than max (5000000 vs. 4194304)",
        "max_tokens: found 0; give 1 to 4096",
    ],
)
def test_refusals_are_no_internals(told: str) -> None:
    assert leak(told) is None


def test_every_field_of_a_request_is_drawn_and_spoiled() -> None:
    declared = {field.name for field in pb.GenerateRequest.DESCRIPTOR.fields}
    drawn, spoiled = set(), set()
    for seed in range(400):
        message = pb.GenerateRequest()
        spoil(Random(seed), message, 1)
        spoiled |= {field.name for field, _ in message.ListFields()}
        drawn |= {field.name for field, _ in wild(Random(seed), pb.GenerateRequest).ListFields()}

    assert drawn == spoiled == declared


def test_the_same_seed_draws_the_same_calls() -> None:
    def calls(seed: int) -> list[Call]:
        plan = Plan(60, seed)
        return [draw_call(plan.rng("Generate", n), METHODS[0], Known((), "n"), Corpus()) for n in range(60)]

    assert calls(7) == calls(7) != calls(8)
    assert any(len(call.messages) != 1 for call in calls(7))


def test_a_corpus_keeps_what_had_an_outcome_of_its_own() -> None:
    corpus = Corpus()
    for number in range(3):
        corpus.add(b"a", "INVALID_ARGUMENT", f"max_tokens: found {number}")
    corpus.add(b"b", "OK", "")

    assert len(corpus) == 2
    assert {corpus.pick(Random(seed)) for seed in range(20)} == {b"a", b"b"}
