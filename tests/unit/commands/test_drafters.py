"""`polydraft drafters`: what it prints, and what it refuses. The cluster is a fake."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.errors import ConfigError
from deployments import operate
from polydraft.cli import main
from training.online.trainer import TrainerCounts, TrainerStatus
from training.online.versions import Version

VERSIONS = (
    Version(1, 0, "2026-01-02T03:04:05+00:00", 64, 32_768, 0.41, 0.4, 1.6, 640),
    Version(2, 1, "2026-01-02T03:09:05+00:00", 32, 16_384, 0.48, 0.42, 1.8, 650, is_rolled_back=True),
)
STATUS = TrainerStatus(1, VERSIONS, TrainerCounts(900, 20, 96, 2, 1), "worse: agreement 0.4 against 0.5")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[object, ...]]:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setenv("HOME", str(tmp_path))  # where a token of Ray's would change this process's environment

    def status(*arguments: object) -> dict[str, str]:
        asked.append(arguments)
        return {"acme": operate.describe(STATUS), "other": "version 0"}

    def roll_back(cluster: str, drafter: str, tenant: str, number: int | None, address: str) -> int:
        asked.append((cluster, drafter, tenant, number, address))
        if number == 9:
            raise ConfigError("version 9 is not before the current one, 1; earlier ones: 0")
        return number or 0

    monkeypatch.setattr(operate, "status", status)
    monkeypatch.setattr(operate, "roll_back", roll_back)
    return asked


def test_status_tells_versions_and_why(asked: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drafters", "status", "de", "--tenant", "acme", "--ray", "10.0.0.1:6379"]) == 0

    told = capsys.readouterr().out
    assert asked == [("polydraft", "de", "10.0.0.1:6379")]
    assert "tenant acme has version 1" in told and "other" not in told
    assert "900 corrections (20 dropped), 96 updates, 2 promotions, 1 refusals" in told
    assert "last judgement: worse: agreement 0.4 against 0.5" in told
    assert "agreement 0.4200 -> 0.4800 on 650 tokens, 32 updates, rolled back" in told


def test_a_rollback_is_one_command(asked: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drafters", "rollback", "de", "--tenant", "acme", "--to", "1", "--cluster", "prod"]) == 0
    assert main(["drafters", "rollback", "de", "--tenant", "acme"]) == 0

    assert asked == [("prod", "de", "acme", 1, "auto"), ("polydraft", "de", "acme", None, "auto")]
    assert capsys.readouterr().out == "de: tenant acme has version 1\nde: tenant acme has version 0\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rollback", "de"], "give --tenant"),
        (["status", "de", "--to", "1"], "--to belongs to rollback"),
        (["status", "de", "--tenant", "nobody"], "'nobody' does not adapt de; those that do: acme, other"),
        (["rollback", "de", "--tenant", "acme", "--to", "9"], "version 9 is not before the current one"),
    ],
)
def test_refusals_say_what_to_do(
    asked: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert main(["drafters", *words]) == 2

    assert told in capsys.readouterr().err
