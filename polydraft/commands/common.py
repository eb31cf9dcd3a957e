"""What commands share: prompt files, the flags of a request, error lines."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from polydraft.errors import PolydraftError

if TYPE_CHECKING:
    from polydraft.options import GenerateOptions

PromptId = str | int


class UsageError(Exception):
    """The command was called wrongly: exit status 2."""


@dataclass(frozen=True, slots=True)
class NamedPrompt:
    """One prompt of a file or of the command line."""

    id: PromptId
    prompt: str
    language: str = ""
    """A label for reports; never sent."""


def read_prompts(path: Path) -> list[NamedPrompt]:
    """The prompts of a JSONL file, {"id", "prompt"[, "language"]} a line; raises UsageError naming the line."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    prompts: list[NamedPrompt] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                prompts.append(_parse_prompt(line, default_id=str(len(prompts))))
            except ValueError as error:
                raise UsageError(f"{path}, line {number}: {error}") from None
    if not prompts:
        raise UsageError(f'{path} holds no prompts; write one {{"id", "prompt"}} a line')
    return prompts


def _parse_prompt(line: bytes, default_id: str) -> NamedPrompt:
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"no UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(record, dict) or not isinstance(record.get("prompt"), str):
        raise ValueError('expected an object with a text under "prompt"')
    name, language = record.get("id", default_id), record.get("language", "")
    if not isinstance(name, str | int) or not isinstance(language, str):
        raise ValueError('"id" must be a text or a whole number, "language" a text')
    return NamedPrompt(name, record["prompt"], language)


def positive_int(text: str) -> int:
    """Check a count (for argparse)."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 up")
    return int(text)


def add_prompt_flags(parser: argparse.ArgumentParser) -> None:
    """Where prompts come from, and their language."""
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", help='texts, or "-": one prompt a line of stdin')
    parser.add_argument("--prompts", type=Path, metavar="FILE.jsonl")
    parser.add_argument("--language", metavar="xx", help="of the prompts; detected by default")


def prompts_of(args: argparse.Namespace) -> list[NamedPrompt]:
    """The prompts that these flags say; `UsageError` unless they are given in one way."""
    words: list[str] = args.prompt
    if bool(words) == (args.prompts is not None):
        raise UsageError("give either PROMPT (or - for stdin) or --prompts FILE.jsonl")
    if args.prompts is not None:
        return read_prompts(args.prompts)
    texts = sys.stdin.read().splitlines() if words == ["-"] else words
    return [NamedPrompt(str(number), text) for number, text in enumerate(texts)]


def add_request_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of a request. The server judges their values."""
    parser.add_argument("--max-tokens", type=int, metavar="N", help="longest answer")
    parser.add_argument("--temperature", type=float, metavar="T", help="0, the default, takes the most likely token")
    parser.add_argument("--top-k", type=int, metavar="K", help="keep the K most likely tokens")
    parser.add_argument("--top-p", type=float, metavar="P", help="keep the smallest set of this probability")
    parser.add_argument("--seed", type=int, metavar="S", help="the same seed gives the same text")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end the answer here; repeatable")
    parser.add_argument("--time-budget-s", type=float, metavar="S", help="end the answer after this long")
    parser.add_argument("--speculation", metavar="auto|off|NAME", help="who drafts; auto by default")
    parser.add_argument("--max-draft-tokens", type=int, metavar="N", help="longest draft block")


def request_options(args: argparse.Namespace) -> GenerateOptions:
    """The options that the request flags say."""
    return {
        "max_tokens": args.max_tokens,
        "temperature": args.temperature,
        "top_k": args.top_k,
        "top_p": args.top_p,
        "seed": args.seed,
        "stop": args.stop,
        "time_budget_s": args.time_budget_s,
        "speculation": args.speculation,
        "max_draft_tokens": args.max_draft_tokens,
    }


def print_json(record: dict[str, object]) -> None:
    """One object on a line of its own."""
    print(json.dumps(record, ensure_ascii=False), flush=True)


def print_failure(command: str, prompt_id: PromptId, error: PolydraftError, as_json: bool) -> None:
    """Say on stderr that a request failed, with `as_json` also as a line on stdout."""
    print(f"polydraft {command}: request {prompt_id}: {error.code}: {error}", file=sys.stderr)
    if as_json:
        print_json({"id": prompt_id, "error": {"code": error.code, "message": str(error)}})
