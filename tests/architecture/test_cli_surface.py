"""Scripts call the command line: an option that appears or disappears is a decision, made here."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

COMMON = {
    "--address",
    "--ca",
    "--certificate",
    "--certificate-key",
    "--concurrency",
    "--json",
    "--max-draft-tokens",
    "--max-tokens",
    "--prompts",
    "--seed",
    "--speculation",
    "--stop",
    "--temperature",
    "--tenant",
    "--time-budget-s",
    "--tls",
    "--top-k",
    "--top-p",
}
OPTIONS = {
    "bench": COMMON | {"--pairs", "--phase-s", "--repeats", "--warmup"},
    "build": {"--output"},
    "config": {"--json", "--set"},
    "demo": {"--address", "--config", "--output"},
    "drafters": {"--cluster", "--ray", "--tenant", "--to"},
    "evaluate": {
        "--config",
        "--drafters",
        "--heat-map",
        "--json",
        "--language",
        "--limit",
        "--markdown",
        "--max-tokens",
        "--own-only",
        "--questions",
        "--seeds",
        "--set",
        "--temperatures",
    },
    "explain": COMMON - {"--concurrency"} | {"--language"},
    "generate": COMMON | {"--language"},
    "serve": {"--grpc-port", "--set"},
    "status": {"--cluster", "--json", "--ray"},
    "tenants": set(),
    "top": {"--cluster", "--interval", "--once", "--ray"},
    "tune": {
        "--columns",
        "--dtype",
        "--evaluations",
        "--languages",
        "--limit",
        "--max-draft-tokens",
        "--max-tokens",
        "--output",
        "--prompts",
        "--seed",
        "--template",
        "--threads",
    },
}
COMMANDS = {*OPTIONS, "train"}


def help_text(*command: str) -> str:
    program = "import sys; from polydraft.cli import main; sys.exit(main())"
    arguments = [sys.executable, "-c", program, *command, "--help"]
    # A narrow terminal would wrap option names.
    result = subprocess.run(
        arguments, cwd=ROOT, capture_output=True, text=True, check=True, env={"COLUMNS": "200", "NO_COLOR": "1"}
    )
    return result.stdout


@pytest.mark.parametrize("command", sorted(OPTIONS))
def test_options_of_a_command_are_frozen(command: str) -> None:
    found = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", help_text(command)))

    assert found - {"--help"} == OPTIONS[command]


def test_commands_are_frozen() -> None:
    listed = re.findall(r"^    ([a-z]+) ", help_text(), flags=re.MULTILINE)

    assert set(listed) == COMMANDS
