"""The command as a whole: help, exit status, what goes where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from polydraft.cli import main

COMMANDS = ["serve", "generate", "bench", "evaluate", "demo", "drafters", "config"]


def polydraft(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "polydraft", *words], capture_output=True, text=True, check=False)


def test_help_names_every_command() -> None:
    done = polydraft("--help")

    assert done.returncode == 0
    assert all(f"\n    {name} " in done.stdout for name in [*COMMANDS, "train"])


@pytest.mark.parametrize("words", [["--help"], *[[name, "--help"] for name in COMMANDS]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom polydraft.cli import main\n"
        f"try: main({words!r})\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'ray', 'numpy', 'grpc', 'asyncio', 'google.protobuf', 'matplotlib', 'pydantic'}"
        " & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    # The commands with an event loop import asyncio, nothing else.
    assert done.stderr in ("[]\n", "['asyncio']\n")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["fly"],
        ["generate", "hello"],
        ["generate", "--address", "nowhere", "hello"],
        ["generate", "--address", "h:1", "--concurrency", "0", "hello"],
        ["bench", "--address", "h:1"],
        ["drafters", "promote", "de"],
    ],
)
def test_wrong_flags_exit_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)

    assert ended.value.code == 2
    assert "usage: polydraft" in capsys.readouterr().err


def test_exit_status_of_the_real_command(tmp_path: Path) -> None:
    wrong = polydraft("generate", "--address", "h:1", "--prompts", str(tmp_path / "no.jsonl"))
    nobody = polydraft("generate", "--address", "127.0.0.1:1", "hello")

    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "no.jsonl" in wrong.stderr
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert nobody.stderr == (
        "polydraft generate: request 0: UNAVAILABLE: no server answers; check the address, that the cluster is up and, "
        "under TLS, the certificates\n"
    )
