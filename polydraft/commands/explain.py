"""Answer prompts, and say for each who drafted it and why.

Where several drafters serve a language, the router takes for each answer the one that it expects to write it fastest,
and may go on with another. The table has them all. A rate is tokens in the time of a round without drafts: by it they
are compared.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from polydraft.commands.common import (
    NamedPrompt,
    add_prompt_flags,
    add_request_flags,
    print_failure,
    print_json,
    prompts_of,
    request_options,
)
from polydraft.commands.connection import add_connection_flags, connect
from polydraft.errors import PolydraftError

if TYPE_CHECKING:
    from polydraft import Answer, DrafterUse, GenerateOptions

NAME = "explain"
HELP = "say who drafted an answer, and why"
_COLUMNS = {"rate at first": 14, "rounds": 8, "tokens": 8, "a round": 9, "ms": 7, "scored": 9, "rate now": 10}
_HEAD = f"{'drafter':<18}" + "".join(name.rjust(width) for name, width in _COLUMNS.items())


def configure(parser: argparse.ArgumentParser) -> None:
    add_connection_flags(parser)
    add_prompt_flags(parser)
    add_request_flags(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object an answer")


def run(args: argparse.Namespace) -> int:
    prompts = prompts_of(args)
    options = request_options(args)
    options["language"] = args.language
    return asyncio.run(_explain(args, prompts, options))


async def _explain(args: argparse.Namespace, prompts: Sequence[NamedPrompt], options: GenerateOptions) -> int:
    status = 0
    async with connect(args) as client:
        for prompt in prompts:
            try:
                answer = await client.generate(prompt.prompt, **options)
            except PolydraftError as error:
                print_failure(NAME, prompt.id, error, args.json)
                status = 1
                continue
            if args.json:
                print_json(_record(prompt, answer))
            else:
                print("\n".join(explanation(answer, args.speculation)), end="\n\n", flush=True)
    return status


def explanation(answer: Answer, speculation: str | None) -> list[str]:
    """Lines for a reader; `speculation` is what the request asked for."""
    figures = answer.speculation
    began = f"began with {answer.drafter}" if answer.drafter != "off" else "began without drafts"
    lines = [
        f"language {answer.language}; {began}; {len(answer.token_ids)} tokens in {figures.rounds} rounds,"
        f" {figures.accepted} of {figures.drafted} drafted tokens accepted"
    ]
    if not figures.drafters:
        return [*lines, _why_no_choice(answer, speculation)]
    used = sorted(figures.drafters, key=lambda use: -use.expected_rate_at_first)
    changes = f"{figures.drafter_changes} change" + "s" * (figures.drafter_changes != 1)
    return [*lines, f"{len(used)} to choose between, {changes} on the way:", _HEAD, *map(_row, used)]


def _why_no_choice(answer: Answer, speculation: str | None) -> str:
    if speculation not in (None, "", "auto"):
        return f"The request names '{speculation}', so there was no choice."
    if answer.drafter == "off":
        return f"No drafter serves '{answer.language}' here, or the tenant may use none that does."
    return f"'{answer.drafter}' alone serves '{answer.language}' here, so there was no choice."


def _row(use: DrafterUse) -> str:
    per_round = f"{use.tokens / use.rounds:.2f}" if use.rounds else "-"
    milliseconds = f"{1_000 * use.seconds / use.rounds:.1f}" if use.rounds else "-"
    scored = f"{use.scored_tokens / use.scored_rounds:.2f}" if use.scored_rounds else "-"
    rates = f"{use.expected_rate_at_first:.2f}", f"{use.expected_rate:.2f}"
    cells = rates[0], str(use.rounds), str(use.tokens), per_round, milliseconds, scored, rates[1]
    return f"{use.drafter:<18}" + "".join(map(str.rjust, cells, _COLUMNS.values()))


def _record(prompt: NamedPrompt, answer: Answer) -> dict[str, object]:
    """The JSON form: a contract with scripts."""
    return {
        "id": prompt.id,
        "language": answer.language,
        "drafter": answer.drafter,
        "changes": answer.speculation.drafter_changes,
        "drafters": [asdict(use) for use in answer.speculation.drafters],
    }
