"""What callers do to a cluster, and how each kind of call must end."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from benchmarks.chaos.traffic import DEADLINE_S, Question, Reply, reply_of, reply_to
from benchmarks.soak.questions import REFUSED
from benchmarks.soak.slow_reader import read_slowly
from benchmarks.tcp_proxy import proxy_to
from polydraft import AsyncClient, Cancelled, DeadlineExceeded, GenerateOptions, InvalidRequest


class Different(Exception):
    """An answer is not its reference, or no beginning of it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way to be asked."""

    address: str
    tenant: str | None
    client: AsyncClient
    question: Question
    expected: Reply
    slow_reader_s: float
    chosen: random.Random

    def new_client(self, address: str = "", timeout_s: float = DEADLINE_S) -> AsyncClient:
        """With a connection of its own."""
        return AsyncClient(address or self.address, self.tenant, timeout_s=timeout_s)

    def check(self, reply: Reply, *, is_whole: bool = True) -> None:
        """Raise Different unless the reply is the reference, or its beginning."""
        same = reply == self.expected if is_whole else _begins(reply, self.expected)
        if not same:
            raise Different(f"{reply} where {self.expected} was due")


async def whole(call: Call) -> None:
    call.check(await reply_to(call.client, call.question))


async def new_text(call: Call) -> None:
    """Nobody has asked for it before: nothing is known to compare it with, and all caches meet something new."""
    sampling = {"temperature": 1.0, "top_k": call.chosen.choice((0, 50)), "top_p": call.chosen.choice((1.0, 0.9))}
    await reply_to(call.client, with_options(call.question, **sampling, seed=call.chosen.getrandbits(63)))


async def cancels(call: Call) -> None:
    await _leave_after_a_few(call, call.client, lambda: None)


async def vanishes(call: Call) -> None:
    """The socket closes, and nothing says that the call is over."""
    async with proxy_to(call.address) as (proxy, address), call.new_client(address) as client:
        await _leave_after_a_few(call, client, proxy.drop)


async def reads_slowly(call: Call) -> None:
    call.check(await read_slowly(call.address, call.tenant, call.question, pause_s=0.05))


async def stops_reading(call: Call) -> None:
    """For longer than the cluster waits; an answer that fits what is on the way is whole by then."""
    with_pause = read_slowly(call.address, call.tenant, call.question, stall_s=2 * call.slow_reader_s)
    with suppress(Cancelled):
        call.check(await with_pause)


async def has_a_deadline(call: Call) -> None:
    async with call.new_client(timeout_s=call.chosen.uniform(0.02, 1.0)) as client:
        with suppress(DeadlineExceeded):
            call.check(await reply_to(client, call.question))


async def has_a_budget(call: Call) -> None:
    budgeted = with_options(call.question, time_budget_s=call.chosen.uniform(0.02, 1.0))
    reply = await reply_to(call.client, budgeted)
    call.check(reply, is_whole=reply.finish_reason != "time_budget")


async def is_refused(call: Call) -> None:
    try:
        await reply_to(call.client, call.chosen.choice(REFUSED))
    except InvalidRequest:
        return
    raise Different("an answer where a refusal was due")


Manner = Callable[[Call], Awaitable[None]]
MANNERS: dict[Manner, int] = {
    whole: 8,
    new_text: 3,
    cancels: 2,
    vanishes: 1,
    reads_slowly: 1,
    stops_reading: 1,
    has_a_deadline: 1,
    has_a_budget: 1,
    is_refused: 1,
}
"""And how often of each sum."""


async def _leave_after_a_few(call: Call, client: AsyncClient, leave: Callable[[], None]) -> None:
    patience = call.chosen.randint(0, 24)

    def leaves(num_tokens: int) -> bool:
        if num_tokens < patience:
            return False
        leave()
        return True

    reply = await reply_of(client.stream(call.question.prompt, **call.question.options), leaves=leaves)
    call.check(reply, is_whole=bool(reply.finish_reason))


def _begins(reply: Reply, whole: Reply) -> bool:
    """An answer that was cut may end in a broken character."""
    same_tokens = whole.token_ids[: len(reply.token_ids)] == reply.token_ids
    return same_tokens and whole.text.startswith(reply.text.rstrip("\ufffd"))


def with_options(question: Question, **options: object) -> Question:
    return replace(question, options=GenerateOptions(**{**question.options, **options}))  # type: ignore[typeddict-item]
