"""A router's part of the tenants' limits: leased from the ledger that all routers share, spent here.

When the ledger cannot be reached, each router keeps to its own part of every limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from cluster.config import TenantConfig
from cluster.errors import Overloaded
from cluster.ledger import LEASE_S, Claim, Grant, Ledger, Meter, Settled
from cluster.tenants import Tenant

DOWN_S = 2.0
"""So long a ledger that did not answer is not asked again."""


Settle = Callable[[Sequence[Claim]], Awaitable[Settled | None]]
"""Asks the ledger; None while it cannot be reached."""


@dataclass(slots=True)
class _Account:
    """One limit of one tenant."""

    tenant: str
    meter: Meter
    configured: float = 0.0
    limit: float = 0.0
    burst: float = 0.0
    left: float = 0.0
    in_use: int = 0
    empty_until_s: float = 0.0
    """Nothing will be granted before."""

    def claim(self, wants: bool) -> Claim:
        """Gives back what is left, to be granted again."""
        left, self.left = self.left, 0.0
        return Claim(self.tenant, self.meter, self.limit, self.burst, left, self.in_use, wants)


class Budgets:
    """One event loop, no locks beyond it. `keep_settled` runs for as long as calls are taken."""

    def __init__(
        self, settle: Settle, now: Callable[[], float], on_limit: Callable[[str, Meter], None] | None = None
    ) -> None:
        """`on_limit` hears of the tenant and the meter whenever a call is refused or an answer has to pause."""
        self._settle_with_all = settle
        self._now = now
        self._on_limit = on_limit
        self._accounts: dict[tuple[str, Meter], _Account] = {}
        self._asking = asyncio.Lock()
        self._own = Ledger()
        """Stands in for the shared one."""
        self._num_routers = 1
        self._down_until_s = 0.0
        self._settling: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def stream(self, tenant: Tenant) -> AsyncIterator[None]:
        """Holds one of the tenant's streams; Overloaded when all are taken, or too many requests came."""
        streams = self._account(tenant, Meter.STREAMS)
        assert streams is not None, "streams are always limited"
        await self._require(streams)
        streams.left -= 1
        streams.in_use += 1
        try:
            await self._pay(self._account(tenant, Meter.REQUESTS), 1)
            yield
        finally:
            streams.in_use -= 1
            streams.left += 1

    async def pay_prompt(self, tenant: Tenant, num_tokens: int) -> None:
        """Overloaded when the tenant has read, or written, as much as it may."""
        output = self._account(tenant, Meter.OUTPUT_TOKENS)
        if output is not None:
            await self._require(output)
        await self._pay(self._account(tenant, Meter.PROMPT_TOKENS), num_tokens)

    def pace_of(self, tenant: Tenant) -> TenantPace:
        """What an answer of the tenant asks as it is written."""
        return TenantPace(self, tenant)

    def pay_output(self, tenant: Tenant, num_tokens: int) -> None:
        """Count tokens that were sent; may overdraw."""
        account = self._account(tenant, Meter.OUTPUT_TOKENS)
        if account is not None:
            account.left -= num_tokens

    async def may_write(self, tenant: Tenant) -> None:
        """Returns when the tenant's answers may go on."""
        while (account := self._account(tenant, Meter.OUTPUT_TOKENS)) is not None:
            try:
                return await self._require(account)
            except Overloaded as error:
                await asyncio.sleep(error.retry_after_s)

    async def keep_settled(self) -> None:
        """Give back what was not spent, and tell what is in use, every second until cancelled."""
        while True:
            await asyncio.sleep(LEASE_S)
            await self._settle([a for a in self._accounts.values() if a.left or a.in_use], wants=False)

    def _account(self, tenant: Tenant, meter: Meter) -> _Account | None:
        """None: there is no such limit."""
        configured = _limit_of(tenant.config, meter)
        if configured is None:
            return None
        account = self._accounts.setdefault((tenant.name, meter), _Account(tenant.name, meter))
        account.configured = configured  # it may have changed
        account.limit = configured / _PERIOD_S.get(meter, 1)
        account.burst = account.limit * tenant.config.burst_s
        return account

    async def _pay(self, account: _Account | None, amount: int) -> None:
        if account is not None:
            await self._require(account)
            account.left -= amount

    async def _require(self, account: _Account) -> None:
        """Have something left, by a new lease if need be; else Overloaded."""
        while account.left <= 0:  # what was granted may be given back, or spent by others, before this goes on
            retry_after_s = account.empty_until_s - self._now()
            if retry_after_s > 0:
                if self._on_limit is not None:
                    self._on_limit(account.tenant, account.meter)
                limit = f"{account.configured:g} {account.meter.value}"
                raise Overloaded(f"tenant '{account.tenant}' is at its limit of {limit}; try later", retry_after_s)
            async with self._asking:  # whoever waited here may find what another was granted
                if account.left <= 0 and self._now() >= account.empty_until_s:
                    settling = asyncio.create_task(self._settle([account], wants=True))
                    self._settling.add(settling)
                    settling.add_done_callback(self._settling.discard)
                    # A caller that goes away meanwhile must not take along what is granted.
                    await asyncio.shield(settling)

    async def _settle(self, accounts: Sequence[_Account], wants: bool) -> None:
        if not accounts:
            return
        claims = [account.claim(wants) for account in accounts]
        grants = await self._granted_by_all(claims)
        if grants is None:
            grants = self._own.settle("", [self._part(claim) for claim in claims], 1, self._now())
        for account, grant in zip(accounts, grants, strict=True):
            account.left += grant.amount
            if wants:
                account.empty_until_s = self._now() + grant.retry_after_s

    async def _granted_by_all(self, claims: Sequence[Claim]) -> Sequence[Grant] | None:
        """What the shared ledger grants; None while it is down."""
        if self._now() < self._down_until_s:
            return None
        settled = await self._settle_with_all(claims)
        if settled is None:
            self._down_until_s = self._now() + DOWN_S
            return None
        self._num_routers = max(settled.num_routers, 1)
        return settled.grants

    def _part(self, claim: Claim) -> Claim:
        """This router's part of a limit."""
        limit = claim.limit / self._num_routers
        if claim.meter is Meter.STREAMS:
            limit = max(limit, 1.0)
        return replace(claim, limit=limit, burst=claim.burst / self._num_routers)


@dataclass(frozen=True, slots=True)
class TenantPace:
    """How fast an answer may be written."""

    _budgets: Budgets
    _tenant: Tenant

    def wrote(self, num_tokens: int) -> None:
        self._budgets.pay_output(self._tenant, num_tokens)

    async def may_go_on(self) -> None:
        await self._budgets.may_write(self._tenant)


_PERIOD_S = {Meter.PROMPT_TOKENS: 60, Meter.OUTPUT_TOKENS: 60}
"""What a configured limit is for; of the others one second, or at once."""


def _limit_of(config: TenantConfig, meter: Meter) -> float | None:
    """As configured; None: no limit."""
    match meter:
        case Meter.STREAMS:
            return config.max_concurrent
        case Meter.REQUESTS:
            return config.requests_per_s
        case Meter.PROMPT_TOKENS:
            return config.prompt_tokens_per_minute
        case Meter.OUTPUT_TOKENS:
            return config.output_tokens_per_minute
