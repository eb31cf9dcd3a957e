"""Answer prompts: from the command line, from a JSONL file ({"id", "prompt"} a line), or from stdin lines ("-").

Answers come in the order of the prompts, with --concurrency too. Without --json their text is streamed.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from polydraft.commands.common import (
    NamedPrompt,
    add_prompt_flags,
    add_request_flags,
    positive_int,
    print_failure,
    print_json,
    prompts_of,
    request_options,
)
from polydraft.commands.connection import add_connection_flags, connect
from polydraft.errors import PolydraftError

if TYPE_CHECKING:
    from polydraft import Answer, AsyncClient, GenerateOptions

NAME = "generate"
HELP = "answer prompts"


def configure(parser: argparse.ArgumentParser) -> None:
    add_connection_flags(parser)
    add_prompt_flags(parser)
    add_request_flags(parser)
    parser.add_argument("--concurrency", type=positive_int, default=1, metavar="C", help="requests at a time")
    parser.add_argument("--json", action="store_true", help="one JSON object an answer")


def run(args: argparse.Namespace) -> int:
    prompts = prompts_of(args)
    options = request_options(args)
    options["language"] = args.language
    return asyncio.run(_answer(args, prompts, options))


async def _answer(args: argparse.Namespace, prompts: Sequence[NamedPrompt], options: GenerateOptions) -> int:
    async with connect(args) as client:
        if args.concurrency == 1 and not args.json:
            return await _stream_all(client, prompts, options)
        gate = asyncio.Semaphore(args.concurrency)

        async def answer(prompt: NamedPrompt) -> Answer | PolydraftError:
            async with gate:
                try:
                    return await client.generate(prompt.prompt, **options)
                except PolydraftError as error:
                    return error

        status = 0
        tasks = [asyncio.create_task(answer(prompt)) for prompt in prompts]
        for prompt, task in zip(prompts, tasks, strict=True):
            outcome = await task
            if isinstance(outcome, PolydraftError):
                print_failure(NAME, prompt.id, outcome, args.json)
                status = 1
            elif args.json:
                print_json(to_record(prompt, outcome))
            else:
                print(outcome.text, flush=True)
    return status


async def _stream_all(client: AsyncClient, prompts: Sequence[NamedPrompt], options: GenerateOptions) -> int:
    from polydraft.answers import Chunk

    status = 0
    for prompt in prompts:
        try:
            async for event in client.stream(prompt.prompt, **options):
                if isinstance(event, Chunk):
                    print(event.text, end="", flush=True)
            print(flush=True)
        except PolydraftError as error:
            print_failure(NAME, prompt.id, error, as_json=False)
            status = 1
    return status


def to_record(prompt: NamedPrompt, answer: Answer) -> dict[str, object]:
    """The JSON form of an answer: a contract with scripts."""
    usage, speculation = answer.usage, answer.speculation
    return {
        "id": prompt.id,
        "prompt": prompt.prompt,
        "text": answer.text,
        "token_ids": list(answer.token_ids),
        "language": answer.language,
        "drafter": answer.drafter,
        "finish_reason": answer.finish_reason.value,
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cached_prompt_tokens": usage.cached_prompt_tokens,
        },
        "speculation": {
            "rounds": speculation.rounds,
            "drafted": speculation.drafted,
            "accepted": speculation.accepted,
            "drafter_version": speculation.drafter_version,
        },
        "timing": {"ttft_s": answer.timing.ttft_s, "total_s": answer.timing.total_s},
        "numerics_id": answer.numerics_id,
    }
