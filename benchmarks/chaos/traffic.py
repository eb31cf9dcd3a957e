"""Seeded requests in all languages, asked again and again, each answer compared with the one that no fault touched."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from polydraft import AsyncClient, Chunk, Event, Finished, GenerateOptions, PolydraftError, Prompt
from polydraft.commands.demo_sentences import LANGUAGE_NAMES, SENTENCES

MAX_TOKENS = 96
DEADLINE_S = 180.0
ECHO_S = 0.5
"""What a process had sent before its end still arrives for so long."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request; its seed makes the answer a function of it."""

    number: int
    prompt: Prompt
    options: GenerateOptions
    language: str = ""
    """Of the prompt."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What one answer said, as far as it was read."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    completion_tokens: int


@dataclass(slots=True)
class Stream:
    """When something came of one answer, on the clock of `time.monotonic`, and how it was made."""

    arrivals_s: list[float] = field(default_factory=list)
    """Its beginning first."""
    num_accepted: int = 0
    num_failovers: int = 0
    """Of drafts and of targets, known at its end."""

    def pause_after(self, at_s: float) -> float:
        """Seconds of the longest pause that goes on at `at_s` or begins within `ECHO_S` of it."""
        pauses = (
            later - max(earlier, at_s)
            for earlier, later in pairwise(self.arrivals_s)
            if earlier <= at_s + ECHO_S and later >= at_s
        )
        return max(pauses, default=0.0)


@dataclass(slots=True)
class Traffic:
    """All that was asked while faults went on."""

    streams: list[Stream] = field(default_factory=list)
    num_identical: int = 0
    different: list[int] = field(default_factory=list)
    """Questions whose answer was not the reference's."""
    failed: list[tuple[int, str]] = field(default_factory=list)
    """Questions without a whole answer, and why."""

    @property
    def num_asked(self) -> int:
        return self.num_identical + len(self.different) + len(self.failed)


def questions(count: int, seed: int, languages: Sequence[str] = tuple(SENTENCES)) -> list[Question]:
    """As many requests, languages in turn: greedy and sampled, some with a stop string."""
    chosen = random.Random(seed)
    found = []
    for number in range(count):
        language = languages[number % len(languages)]
        space = "" if language in ("ja", "zh") else " "
        source = space.join(chosen.sample(SENTENCES[language], k=chosen.randint(3, 8)))
        options = GenerateOptions(
            max_tokens=MAX_TOKENS,
            seed=chosen.getrandbits(63),
            temperature=chosen.choice((0.0, 0.8)),
            stop=chosen.choice(((), (), ("the", "tomorrow"))),
        )
        prompt = f"Translate {LANGUAGE_NAMES[language]} to English: {source}\n"
        found.append(Question(number, prompt, options, language))
    return found


async def reply_to(client: AsyncClient, question: Question, stream: Stream | None = None) -> Reply:
    """Ask once; raises PolydraftError. The client itself refuses an answer with a gap or a repeat."""
    return await reply_of(client.stream(question.prompt, **question.options), stream)


async def reply_of(
    events: AsyncGenerator[Event, None], stream: Stream | None = None, leaves: Callable[[int], bool] | None = None
) -> Reply:
    """What these events tell. `leaves` is asked, with the tokens so far, whether to go away before the end."""
    text, token_ids = "", list[int]()
    finish_reason, completion_tokens = "", 0
    if stream is not None:
        stream.arrivals_s.append(time.monotonic())
    async for event in events:
        if stream is not None:
            stream.arrivals_s.append(time.monotonic())
        if isinstance(event, Chunk):
            text += event.text
            token_ids += event.token_ids
        elif isinstance(event, Finished):
            finish_reason, completion_tokens = event.finish_reason.value, event.usage.completion_tokens
            if stream is not None:
                stream.num_accepted = event.speculation.accepted
                stream.num_failovers = event.speculation.failovers
        if leaves is not None and leaves(len(token_ids)):
            await events.aclose()
            break
    return Reply(text, tuple(token_ids), finish_reason, completion_tokens)


async def references(address: str, asked: Sequence[Question], num_streams: int) -> list[Reply]:
    """The answers of a cluster that nothing happens to."""
    gate = asyncio.Semaphore(num_streams)
    async with AsyncClient(address, timeout_s=DEADLINE_S) as client:

        async def one(question: Question) -> Reply:
            async with gate:
                return await reply_to(client, question)

        return list(await asyncio.gather(*map(one, asked)))


async def keep_asking(
    address: str,
    asked: Sequence[Question],
    expected: Sequence[Reply],
    num_streams: int,
    traffic: Traffic,
    stop: asyncio.Event,
) -> None:
    """Ask all questions, and go on from the first until `stop` is set. Each stream has a connection of its own."""
    numbers = iter(range(1 << 62))

    async def worker() -> None:
        async with AsyncClient(address, timeout_s=DEADLINE_S) as client:
            while (number := next(numbers)) < len(asked) or not stop.is_set():
                question = asked[number % len(asked)]
                stream = Stream()
                traffic.streams.append(stream)
                try:
                    reply = await reply_to(client, question, stream)
                except PolydraftError as error:
                    traffic.failed.append((question.number, f"{error.code}: {error}"))
                    continue
                if reply == expected[question.number]:
                    traffic.num_identical += 1
                else:
                    traffic.different.append(question.number)

    async with asyncio.TaskGroup() as workers:
        for _ in range(num_streams):
            workers.create_task(worker())
