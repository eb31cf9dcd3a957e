"""`polydraft generate` against a real server with scripted answers: the contract that scripts rely on."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from polydraft.cli import main
from tests.fakes_server import Failure, FakeGeneration, Script, ServerThread

HELLO, BYE, SAD = "Guten Tag, 猫", "Tschüs", "kaputt"


@pytest.fixture(name="servicer")
def _servicer() -> FakeGeneration:
    failure = Failure("OVERLOADED", grpc.StatusCode.RESOURCE_EXHAUSTED, "32 answers are running; try again later")
    scripts: dict[bytes, Script | Failure] = {
        HELLO.encode(): Script((b"Good", b" day", b", ", "猫".encode()[:1], "猫".encode()[1:])),
        BYE.encode(): Script((b"Bye",)),
        SAD.encode(): failure,
    }
    return FakeGeneration(scripts)


@pytest.fixture(name="address")
def _address(servicer: FakeGeneration) -> Iterator[str]:
    server = ServerThread(servicer)
    yield server.address
    server.stop()


def write_prompts(path: Path, *prompts: str) -> str:
    path.write_text("".join(json.dumps({"id": f"q{n}", "prompt": p}) + "\n" for n, p in enumerate(prompts)))
    return str(path)


def test_json_record_has_exactly_the_fields_of_the_contract(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["generate", "--address", address, "--json", HELLO])
    record = json.loads(capsys.readouterr().out)

    timing = record.pop("timing")
    assert status == 0
    assert record == {
        "id": "0",
        "prompt": HELLO,
        "text": "Good day, 猫",
        "token_ids": [100, 101, 102, 103, 104],
        "language": "de",
        "drafter": "lm-de",
        "finish_reason": "eos",
        "usage": {"prompt_tokens": 4, "completion_tokens": 5, "cached_prompt_tokens": 3},
        "speculation": {"rounds": 2, "drafted": 4, "accepted": 3, "drafter_version": ""},
        "numerics_id": "numerics-1",
    }
    assert set(timing) == {"ttft_s", "total_s"}


def test_text_is_streamed_without_json(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["generate", "--address", address, HELLO, BYE])

    assert (status, capsys.readouterr().out) == (0, "Good day, 猫\nBye\n")


@pytest.mark.parametrize("concurrency", ["1", "8"])
def test_answers_keep_the_order_of_the_file(
    address: str, concurrency: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = write_prompts(tmp_path / "p.jsonl", *[HELLO, BYE] * 6)
    status = main(["generate", "--address", address, "--prompts", prompts, "--concurrency", concurrency, "--json"])
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert status == 0
    assert [record["id"] for record in records] == [f"q{n}" for n in range(12)]
    assert [record["text"] for record in records] == ["Good day, 猫", "Bye"] * 6


@pytest.mark.parametrize("concurrency", ["1", "4"])
def test_a_failed_request_is_a_line_and_exit_1(
    address: str, concurrency: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = write_prompts(tmp_path / "p.jsonl", BYE, SAD, BYE)
    status = main(["generate", "--address", address, "--prompts", prompts, "--concurrency", concurrency, "--json"])
    out, err = capsys.readouterr()

    records = [json.loads(line) for line in out.splitlines()]
    message = "32 answers are running; try again later"
    assert status == 1
    assert records[1] == {"id": "q1", "error": {"code": "OVERLOADED", "message": message}}
    assert [record.get("text") for record in records] == ["Bye", None, "Bye"]
    assert err == f"polydraft generate: request q1: OVERLOADED: {message}\n"


def test_without_json_a_failed_request_is_on_stderr_only(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["generate", "--address", address, SAD, BYE])
    out, err = capsys.readouterr()

    assert (status, out) == (1, "Bye\n")
    assert "OVERLOADED" in err


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--temperature", "-1"], "temperature is negative"),
        (["--max-tokens", "0"], "max_tokens is 0"),
        (["--max-tokens", "-3"], "max_tokens is -3"),
        (["--seed", "-1"], "seed is -1"),
    ],
)
def test_bad_values_are_errors_of_the_request(
    address: str, flags: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["generate", "--address", address, *flags, "--json", BYE])
    record = json.loads(capsys.readouterr().out)

    assert status == 1
    assert record["error"]["code"] == "INVALID_REQUEST"
    assert text in record["error"]["message"]


def test_flags_and_key_reach_the_server(
    address: str, servicer: FakeGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYDRAFT_KEY", "s3cret")
    flags = "--language de --max-tokens 9 --temperature 0.7 --top-k 3 --top-p 0.5 --seed 4 --stop END --stop !!"
    more = "--time-budget-s 3 --speculation ngram --max-draft-tokens 2 --tenant acme"
    main(["generate", "--address", address, *flags.split(), *more.split(), BYE])

    request = servicer.requests[0]
    assert (request.language, request.max_tokens, request.seed, request.speculation) == ("de", 9, 4, "ngram")
    assert (request.sampling.temperature, request.sampling.top_k, request.sampling.top_p) == (0.7, 3, 0.5)
    assert (list(request.stop), request.time_budget_s, request.max_draft_tokens) == ([b"END", b"!!"], 3.0, 2)
    assert servicer.metadata[0]["polydraft-tenant"] == "acme"
    assert servicer.metadata[0]["polydraft-key"] == "s3cret"


def test_stdin_gives_one_prompt_a_line(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{BYE}\n{HELLO}\n"))
    main(["generate", "--address", address, "--json", "-"])
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [(record["id"], record["prompt"]) for record in records] == [("0", BYE), ("1", HELLO)]


def test_bytes_that_are_no_utf8_reach_the_server_as_they_are(address: str, servicer: FakeGeneration) -> None:
    status = main(["generate", "--address", address, b"caf\xe9".decode("utf-8", "surrogateescape")])

    assert status == 1
    assert servicer.requests[0].prompt != "caf\u00e9".encode()
    with pytest.raises(UnicodeDecodeError):
        servicer.requests[0].prompt.decode("utf-8")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"id": "a", "prompt": "x"}\n{"id": \n', "line 2: no JSON"),
        (b'\n{"id": "a"}\n', 'line 2: expected an object with a text under "prompt"'),
        (b'["x"]\n', "line 1: expected an object"),
        (b'{"id": [1], "prompt": "x"}\n', 'line 1: "id" must be'),
        (b'{"prompt": "caf\xe9"}\n', "line 1: no UTF-8 at byte 15"),
        (b"\n", "holds no prompts"),
    ],
)
def test_a_bad_file_is_wrong_usage_and_says_where(
    content: bytes, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.jsonl"
    file.write_bytes(content)
    status = main(["generate", "--address", "127.0.0.1:1", "--prompts", str(file)])
    out, err = capsys.readouterr()

    assert (status, out) == (2, "")
    assert reason in err


@pytest.mark.parametrize("words", [[], ["x", "--prompts", "p.jsonl"]])
def test_prompts_come_from_exactly_one_place(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--address", "127.0.0.1:1", *words]) == 2
    assert "either PROMPT" in capsys.readouterr().err
