"""`polydraft evaluate` from question files to JSON, Markdown and picture, on a tiny family."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine import local
from engine.engine import Engine
from engine.local import LocalAnswer
from engine.session import OpenRequest
from polydraft.cli import main
from tests.tiny_family import write_tiny_family
from training.evaluation import protocol

PNG = b"\x89PNG\r\n\x1a\n"
LINES = [
    {"question_id": 1, "category": "x", "language": "de", "turns": ["t10 t11 t12", "t20"]},
    {"question_id": 2, "category": "x", "language": "fr", "turns": ["t30 t31 t30 t31"]},
    {"question_id": 3, "category": "x", "language": "fr", "turns": ["t50"]},
]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_family(tmp_path_factory.mktemp("family"))


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "everyday.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return file


def words(config: Path, *questions: Path) -> list[str]:
    return ["evaluate", "--config", str(config), "--questions", *map(str, questions), "--max-tokens", "8"]


def test_the_matrix_is_reported_as_json_markdown_and_picture(
    config: Path, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written, picture = tmp_path / "report.md", tmp_path / "map.png"
    outputs = ["--json", "--markdown", str(written), "--heat-map", str(picture)]

    status = main([*words(config, questions), "--seeds", "2", "--limit", "1", *outputs])
    out, err = capsys.readouterr()
    report = json.loads(out)

    assert status == 0
    places = {(cell["language"], cell["temperature"], cell["drafter"]): cell for cell in report["cells"]}
    assert set(places) == {(lang, t, name) for lang in ("de", "fr") for t in (0.0, 1.0) for name in ("de", "fr")}
    assert all(cell["is_own"] is (cell["language"] == cell["drafter"]) for cell in report["cells"])
    assert [plain["num_questions"] for plain in report["plain"]] == [1, 1, 1, 1]
    # Two drafters, asked for counts and for time, of a German and a French question once greedy and with two seeds.
    assert report["identical"] == [24, 24]
    assert report["drafters"]["fr"]["language"] == "fr"
    assert {"target_id", "numerics_id", "machine", "versions", "commit", "config", "settings"} <= set(report)
    assert "| de | **" in written.read_text()
    assert "identical with and without drafts: 24 of 24" in written.read_text()
    assert picture.read_bytes().startswith(PNG)
    assert "everyday fr, T=1, seed 1, question 1 of 1" in err


def test_chosen_drafters_and_only_own_languages(
    config: Path, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["--drafters", "fr", "lookup", "--temperatures", "0", "--set", "target.draft_lengths=fixed"]
    main([*words(config, questions), "--json", *chosen])
    both = json.loads(capsys.readouterr().out)
    main([*words(config, questions), "--json", *chosen, "--own-only"])
    own = json.loads(capsys.readouterr().out)

    assert [(cell["language"], cell["drafter"]) for cell in both["cells"]] == [
        ("de", "fr"),
        ("de", "lookup"),
        ("fr", "fr"),
        ("fr", "lookup"),
    ]
    assert both["identical"] == [6, 6]
    assert [(cell["language"], cell["drafter"]) for cell in own["cells"]] == [("fr", "fr")]


def test_another_text_with_drafting_fails_loudly(
    config: Path, questions: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoiled(engine: Engine, requests: list[OpenRequest], *, is_checked: bool) -> dict[int, LocalAnswer]:
        answers = local.generate(engine, requests, is_checked=is_checked)
        (request,) = requests
        assert request.local is not None
        if request.local.method and request.prompt_length > 4:
            answers[request.session_id] = replace(answers[request.session_id], token_ids=[7])
        return answers

    monkeypatch.setattr(protocol, "generate", spoiled)

    status = main([*words(config, questions), "--temperatures", "0", "--drafters", "fr", "--limit", "1"])
    out, err = capsys.readouterr()

    assert status == 1
    assert "FAILED: 4 of 4 answers differ" in err
    assert "identical with and without drafts: 0 of 4" in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--drafters", "pl"], "drafters pl: not configured; configured: lookup, de, fr"),
        (["--own-only", "--drafters", "lookup"], "no drafter is configured for de, fr"),
        (["--language", "German"], "'German': give an ISO 639 code"),
        (["--set", "target.wheels=4"], "target.wheels: unknown key"),
        (["--set", "target.model=nowhere"], "nowhere is not a directory"),
        (["--set", "target.num_pages=2"], "do not fit the KV pool"),
        (["--markdown", "nowhere/report.md"], "nowhere is no directory"),
    ],
)
def test_what_cannot_be_evaluated_is_wrong_usage(
    config: Path, questions: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main([*words(config, questions), *flags])
    out, err = capsys.readouterr()

    assert (status, out) == (2, "")
    assert message in err


def test_a_broken_line_is_wrong_usage(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"question_id": 1, "turns": []}\n')

    status = main(words(config, broken))

    assert status == 2
    assert "broken.jsonl, line 1: turns" in capsys.readouterr().err


def test_a_wrong_temperature_is_refused(questions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--questions", str(questions), "--temperatures", "warm"])

    assert ended.value.code == 2
    assert "'warm' is no temperature" in capsys.readouterr().err
