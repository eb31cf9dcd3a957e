"""`polydraft bench` against a real server with scripted answers: the report, and what it asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import grpc
import pytest

from polydraft.cli import main
from tests.fakes_server import Failure, FakeGeneration, Script, ServerThread

FIELDS = {"mean_speedup", "ci95", "mean_tokens_per_round", "identical", "languages", "config", "commit", "versions"}
ROW = {"speedup", "tokens_per_round", "tokens_per_s_on", "tokens_per_s_off", "ttft_ms", "itl_ms", "drafter"}


@pytest.fixture(name="servicer")
def _servicer() -> FakeGeneration:
    german, french = Script((b"x",) * 12, "de"), Script((b"y",) * 6, "fr")
    return FakeGeneration({b"eins": german, b"zwei": german, b"un": french})


@pytest.fixture(name="address")
def _address(servicer: FakeGeneration) -> Iterator[str]:
    server = ServerThread(servicer)
    yield server.address
    server.stop()


@pytest.fixture(name="prompts")
def _prompts(tmp_path: Path) -> str:
    file = tmp_path / "p.jsonl"
    file.write_text("".join(json.dumps({"id": text, "prompt": text}) + "\n" for text in ("eins", "zwei", "un")))
    return str(file)


def test_one_stream_reports_each_language(
    address: str, prompts: str, servicer: FakeGeneration, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--repeats", "2", "--warmup", "1", "--temperature", "0.8", "--seed", "5", "--json"]
    status = main(["bench", "--address", address, "--prompts", prompts, *flags])
    report = json.loads(capsys.readouterr().out)

    assert status == 0
    assert set(report) == FIELDS
    assert set(report["languages"]) == {"de", "fr"}
    assert all(set(row) == ROW for row in report["languages"].values())
    assert all(
        set(row[name]) == {"p50", "p95"} for row in report["languages"].values() for name in ("ttft_ms", "itl_ms")
    )
    assert report["mean_tokens_per_round"] == 3.0
    assert report["identical"] == [6, 6]
    assert report["ci95"][0] <= report["mean_speedup"] <= report["ci95"][1]
    assert (report["config"]["temperature"], report["config"]["repeats"]) == (0.8, 2)
    assert {"python", "grpcio"} <= set(report["versions"])
    # After one warm-up pair: each question and seed once with drafting and once without.
    asked = [(request.prompt, request.seed, request.speculation) for request in servicer.requests[2:]]
    sides = [(text, seed, side) for text in (b"eins", b"zwei", b"un") for seed in (5, 6) for side in ("", "off")]
    assert sorted(asked) == sorted(sides)


def test_a_closed_loop_compares_pairs_of_phases(
    address: str, prompts: str, servicer: FakeGeneration, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--concurrency", "3", "--pairs", "2", "--phase-s", "0.2", "--warmup", "0", "--json"]
    status = main(["bench", "--address", address, "--prompts", prompts, *flags])
    report = json.loads(capsys.readouterr().out)

    assert status == 0
    assert set(report) == FIELDS
    assert set(report["languages"]) == {"de", "fr"}
    assert report["mean_speedup"] > 0
    assert report["identical"][0] == report["identical"][1] > 0
    assert (report["config"]["pairs"], report["config"]["phase_s"]) == (2, 0.2)
    sides = [request.speculation for request in servicer.requests]
    changes = sum(before != after for before, after in pairwise(sides))
    assert changes == 3  # on, off, on, off


def test_without_json_it_prints_a_table(address: str, prompts: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["bench", "--address", address, "--prompts", prompts, "--warmup", "0"])
    out, err = capsys.readouterr()

    assert "tokens/round" in out
    assert "identical answers with drafting on and off: 3 of 3" in out
    assert "question 3 of 3" in err


def test_different_answers_are_counted(
    address: str, prompts: str, servicer: FakeGeneration, capsys: pytest.CaptureFixture[str]
) -> None:
    servicer.differs_when_drafted = True
    main(["bench", "--address", address, "--prompts", prompts, "--warmup", "0", "--json"])

    assert json.loads(capsys.readouterr().out)["identical"] == [0, 3]


@pytest.mark.parametrize("flags", [[], ["--concurrency", "4", "--phase-s", "0.2", "--warmup", "0"]])
def test_a_failed_request_ends_it(
    address: str,
    prompts: str,
    flags: list[str],
    servicer: FakeGeneration,
    capsys: pytest.CaptureFixture[str],
) -> None:
    servicer.scripts[b"eins"] = Failure("OVERLOADED", grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")
    status = main(["bench", "--address", address, "--prompts", prompts, "--json", *flags])

    error = {"code": "OVERLOADED", "message": "too much"}
    assert status == 1
    assert json.loads(capsys.readouterr().out) == {"id": "eins", "error": error}


def test_nothing_to_compare_is_wrong_usage(prompts: str) -> None:
    assert main(["bench", "--address", "127.0.0.1:1", "--prompts", prompts, "--speculation", "off"]) == 2
