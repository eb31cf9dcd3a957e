"""Limits of tenants over two routers that share a ledger: exact, also when one router has all the load.

Time is virtual: a minute of flooding takes no time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from cluster.budgets import Budgets, Settle
from cluster.config import TenantConfig
from cluster.errors import Overloaded
from cluster.ledger import Claim, Ledger, Meter, Settled
from cluster.tenants import Tenant
from tests.unit.cluster.virtual_time import run_in_virtual_time

SECONDS = 60
EXACT = 0.05
NEVER = (float("inf"), float("inf"))


@dataclass
class Routers:
    """Two routers' budgets over one ledger."""

    down_s: tuple[float, float] = NEVER
    """From when to when the ledger cannot be reached."""
    ledger: Ledger = field(default_factory=Ledger)
    budgets: list[Budgets] = field(default_factory=list)

    def __post_init__(self) -> None:
        clock = asyncio.get_running_loop().time
        self.budgets = [Budgets(self._settle(name), clock) for name in ("r1", "r2")]
        self._tasks = [asyncio.create_task(budgets.keep_settled()) for budgets in self.budgets]

    def kill(self, number: int) -> None:
        """A router says nothing any more."""
        self._tasks[number].cancel()

    def _settle(self, name: str) -> Settle:
        async def settle(claims: Sequence[Claim]) -> Settled | None:
            now_s = asyncio.get_running_loop().time()
            await asyncio.sleep(0.002)
            if self.down_s[0] <= now_s < self.down_s[1]:
                return None
            return Settled(self.ledger.settle(name, claims, 2, now_s), 2)

        return settle


@dataclass
class Counts:
    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    open: int = 0
    most_open: int = 0
    open_seconds: float = 0.0


async def _call(budgets: Budgets, tenant: Tenant, counts: Counts, random_: random.Random) -> None:
    """One caller that asks again as soon as it is told to."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            async with budgets.stream(tenant):
                num_prompt = random_.randint(1, 60)
                await budgets.pay_prompt(tenant, num_prompt)
                counts.requests += 1
                counts.prompt_tokens += num_prompt
                counts.open += 1
                counts.most_open = max(counts.most_open, counts.open)
                begin_s = loop.time()
                try:
                    pace = budgets.pace_of(tenant)
                    for _ in range(random_.randint(1, 5)):
                        await asyncio.sleep(0.01)
                        pace.wrote(3)
                        counts.output_tokens += 3
                        await pace.may_go_on()
                finally:
                    counts.open -= 1
                    counts.open_seconds += loop.time() - begin_s
        except Overloaded as error:
            await asyncio.sleep(error.retry_after_s)


async def _flood(tenant: Tenant, num_callers: tuple[int, int], down_s: tuple[float, float] = NEVER) -> Counts:
    routers = Routers(down_s)
    counts = Counts()
    callers = [
        asyncio.create_task(_call(budgets, tenant, counts, random.Random(number)))
        for budgets, how_many in zip(routers.budgets, num_callers, strict=True)
        for number in range(how_many)
    ]
    await asyncio.sleep(SECONDS)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    return counts


def _tenant(**limits: float) -> Tenant:
    return Tenant("acme", TenantConfig.model_validate(limits))


LOADS = [(8, 8), (16, 0), (1, 15)]
"""Callers at each router."""


@pytest.mark.parametrize("callers", LOADS)
@pytest.mark.parametrize("rate", [0.5, 7.0, 90.0])
def test_requests_a_second_are_exact(callers: tuple[int, int], rate: float) -> None:
    counts = run_in_virtual_time(_flood(_tenant(requests_per_s=rate), callers))

    allowed = rate * SECONDS + rate  # the bucket was full at first
    assert abs(counts.requests - allowed) <= max(EXACT * allowed, 2)


@pytest.mark.parametrize("callers", LOADS)
@pytest.mark.parametrize("name", ["prompt", "output"])
def test_tokens_a_minute_are_exact(callers: tuple[int, int], name: str) -> None:
    limit = 6_000
    counts = run_in_virtual_time(_flood(_tenant(**{f"{name}_tokens_per_minute": limit}), callers))

    allowed = limit / 60 * (SECONDS + 1)
    found = counts.prompt_tokens if name == "prompt" else counts.output_tokens
    assert abs(found - allowed) <= EXACT * allowed


@pytest.mark.parametrize("callers", [(20, 20), (40, 0), (1, 39)])
def test_streams_are_never_too_many_and_nearly_always_all_in_use(callers: tuple[int, int]) -> None:
    counts = run_in_virtual_time(_flood(_tenant(max_concurrent=10), callers))

    assert counts.most_open == 10
    assert counts.open_seconds >= (1 - EXACT) * 10 * SECONDS


def test_while_the_ledger_is_down_each_router_keeps_to_its_part() -> None:
    tenant = _tenant(requests_per_s=20.0)

    even = run_in_virtual_time(_flood(tenant, (8, 8), (10.0, 50.0)))
    one_sided = run_in_virtual_time(_flood(tenant, (16, 0), (10.0, 50.0)))

    assert even.requests == pytest.approx(20 * 61, rel=2 * EXACT)  # and its bucket is full when it takes over
    assert one_sided.requests == pytest.approx(20 * 21 + 10 * 40, rel=2 * EXACT)


def test_what_is_not_used_may_be_used_later_up_to_the_burst() -> None:
    async def after_a_pause() -> int:
        routers = Routers()
        tenant = _tenant(requests_per_s=2.0, burst_s=5.0)
        await asyncio.sleep(100)
        number = 0
        while True:
            try:
                async with routers.budgets[number % 2].stream(tenant):
                    number += 1
            except Overloaded:
                if number >= 9:
                    return number
                await asyncio.sleep(0.05)

    assert run_in_virtual_time(after_a_pause()) in (9, 10, 11, 12)


def test_a_caller_that_leaves_while_it_waits_takes_nothing_along() -> None:
    async def leave() -> None:
        routers = Routers()
        tenant = _tenant(max_concurrent=1)
        leaving = asyncio.create_task(_hold(routers.budgets[0], tenant))
        await asyncio.sleep(0.001)  # the ledger is being asked
        leaving.cancel()
        await asyncio.sleep(3.0)
        async with routers.budgets[1].stream(tenant):
            pass

    run_in_virtual_time(leave())


def test_streams_of_a_router_that_died_are_free_again() -> None:
    async def die() -> None:
        routers = Routers()
        tenant = _tenant(max_concurrent=1)
        holder = asyncio.create_task(_hold(routers.budgets[0], tenant))
        await asyncio.sleep(3.0)
        with pytest.raises(Overloaded, match="tenant 'acme' is at its limit of 1 streams at once"):
            async with routers.budgets[1].stream(tenant):
                pass
        routers.kill(0)
        await asyncio.sleep(7.0)
        async with routers.budgets[1].stream(tenant):
            pass
        holder.cancel()

    run_in_virtual_time(die())


def test_a_router_that_comes_finds_streams_although_another_had_all_to_itself() -> None:
    ledger = Ledger()
    claim = Claim("acme", Meter.STREAMS, limit=64, burst=64)
    ledger.settle("r1", [claim], num_routers=1, now_s=0.0)

    (grant,) = ledger.settle("r2", [claim], num_routers=1, now_s=0.1)

    assert grant.amount > 1


def test_a_changed_limit_holds_from_then_on() -> None:
    async def change() -> None:
        budgets = Routers().budgets[0]
        async with budgets.stream(_tenant(max_concurrent=1)):
            with pytest.raises(Overloaded):
                async with budgets.stream(_tenant(max_concurrent=1)):
                    pass
            await asyncio.sleep(1.5)
            async with budgets.stream(_tenant(max_concurrent=2)):
                pass

    run_in_virtual_time(change())


async def _hold(budgets: Budgets, tenant: Tenant) -> None:
    async with budgets.stream(tenant):
        await asyncio.Event().wait()


def test_a_caller_whose_lease_is_given_back_before_it_goes_on_asks_again() -> None:
    """Granted in the same turn of the event loop in which the router gives back what nobody has spent."""

    async def call_just_then() -> None:
        ledger, clock, num_asked = Ledger(), asyncio.get_running_loop().time, 0

        async def settle(claims: Sequence[Claim]) -> Settled:
            nonlocal num_asked
            num_asked += claims[0].wants
            if num_asked == 1:
                await asyncio.sleep(0.5 - 5e-10)
            return Settled(ledger.settle("r1", claims, 1, clock()), 1)

        budgets = Budgets(settle, clock)
        settling = asyncio.create_task(budgets.keep_settled())
        await asyncio.sleep(0.5)
        async with budgets.stream(_tenant(max_concurrent=4)):
            assert num_asked == 2
        settling.cancel()

    run_in_virtual_time(call_just_then())
