"""A request from its arrival to its last event: tenant, admission, checks, language, drafter, session."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from cluster import request as checks
from cluster.admission import Admission
from cluster.budgets import Budgets
from cluster.chat import ChatTurn
from cluster.choosing import DrafterChooser, records_of, task_of
from cluster.config import Config, TenantConfig
from cluster.errors import Cancelled, InternalError, PolydraftError, TargetChanged, Unauthenticated
from cluster.events import Event
from cluster.model_files import TargetFacts
from cluster.observing import OK, Observer, Unobserved, Watch
from cluster.peers import Fleet
from cluster.request import DrafterChoice, RawRequest, Request
from cluster.routing import choose_language, drafters_for
from cluster.session import Session, SessionSettings
from cluster.tenants import Tenant, authenticate
from cluster.text import Tokenizer
from cluster.waking import DrafterStreams

_LARGE_CONTENT = 16_384
"""Characters from which encoding leaves the event loop's thread, so that heartbeats go on."""


class Detected(Protocol):
    @property
    def language(self) -> str: ...


class Detector(Protocol):
    """Finds the language of a text, or None."""

    def detect(self, text: str) -> Detected | None: ...


class GenerationService:
    """Answers requests; the fronts of `deployments/` only translate."""

    def __init__(
        self,
        config: Config,
        facts: TargetFacts,
        tokenizer: Tokenizer,
        detector: Detector,
        fleet: Fleet,
        budgets: Budgets,
        now: Callable[[], float],
        observer: Observer | None = None,
    ) -> None:
        self._config = config
        self._facts = facts
        self._tokenizer = tokenizer
        self._detector = detector
        self._fleet = fleet
        self._budgets = budgets
        self._now = now
        self._observer = observer or Unobserved()
        self._numbers = itertools.count(1)
        self._settings = SessionSettings(
            credit_tokens=config.limits.credit_tokens,
            failover_wait_s=config.limits.failover_wait_s,
            page_size=config.target.page_size,
        )
        self.admission = Admission(config.limits.max_concurrent_streams)
        self.drafter_streams = DrafterStreams()
        self._arm_records = records_of(config)

    def use_tenants(self, tenants: Mapping[str, TenantConfig]) -> None:
        """From now on these are the tenants; answers that run go on as they began."""
        self._config = self._config.model_copy(update={"tenants": dict(tenants)})

    @property
    def config(self) -> Config:
        """With the tenants that there are now."""
        return self._config

    def check_caller(self, tenant_name: str, key: str) -> Tenant:
        """Unauthenticated if the key is not the tenant's."""
        try:
            return authenticate(self._config.all_tenants, tenant_name, key)
        except Unauthenticated as error:
            self._observer.refused(tenant_name, error.code)
            raise

    async def answer(
        self, raw: RawRequest, *, request_id: str, tenant_name: str = "", key: str = "", traceparent: str = ""
    ) -> AsyncGenerator[Event, None]:
        """The events of one answer; raises PolydraftError."""
        tenant = self.check_caller(tenant_name, key)
        watch = self._observer.call(request_id, tenant.name, traceparent)
        code = InternalError.code
        try:
            async with aclosing(self._events(raw, tenant, request_id, watch)) as events:
                async for event in events:
                    watch.wrote(event)
                    yield event
            code = OK
        except PolydraftError as error:
            code = error.code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            code = Cancelled.code
            raise
        finally:
            watch.ended(code)

    async def _events(
        self, raw: RawRequest, tenant: Tenant, request_id: str, watch: Watch
    ) -> AsyncGenerator[Event, None]:
        with self.admission.admitted():
            async with self._budgets.stream(tenant):
                request, chooser = await self._prepare(raw, tenant, request_id)
                await self._budgets.pay_prompt(tenant, len(request.prompt_ids))
                request = replace(request, traceparent=watch.traceparent)
                watch.prepared(request)
                with self.drafter_streams.opened(None if request.drafting.is_local else request.drafting.name):
                    async with aclosing(self._session(request, tenant, watch, chooser).events()) as events:
                        async for event in events:
                            yield event

    def _session(self, request: Request, tenant: Tenant, watch: Watch, chooser: DrafterChooser | None) -> Session:
        pace, number = self._budgets.pace_of(tenant), next(self._numbers)
        return Session(number, request, self._fleet, self._tokenizer, self._settings, pace, self._now, watch, chooser)

    async def _prepare(self, raw: RawRequest, tenant: Tenant, request_id: str) -> tuple[Request, DrafterChooser | None]:
        """The request, and who chooses its drafter if there is a choice."""
        limits = self._config.limits
        longest = checks.longest_answer(limits, tenant.config)
        checks.check_fields(raw, limits, longest)
        stop = checks.stop_strings(raw)
        given_ids = checks.ids_of(raw, self._facts.vocab_size, self._facts.max_context)
        content = checks.content_of(raw, limits) if given_ids is None else self._tokenizer.decode(given_ids)
        text = checks.plain_text(content)
        language = choose_language(raw, tenant, self._config, lambda: self._detect(text))
        choices = drafters_for(raw, language, tenant, self._config)
        prompt_ids = await self._encode(content, len(text)) if given_ids is None else given_ids
        max_tokens = checks.answer_length(raw, limits, longest, len(prompt_ids), self._facts.max_context)
        resume = checks.check_resume(raw, max_tokens, self._facts.vocab_size)
        if resume is not None:
            self._check_numerics(resume.numerics_id)
        chooser = self._chooser(choices, language, task_of(tenant.name, prompt_ids))
        request = Request(
            request_id=request_id,
            tenant=tenant.name,
            weight=tenant.config.weight,
            language=language,
            prompt_ids=prompt_ids,
            sampling=checks.sampling_of(raw),
            seed=checks.seed_of(raw, secrets.randbits(64)),
            max_tokens=max_tokens,
            stop=stop,
            time_budget_s=raw.time_budget_s,
            drafting=chooser.favourite if chooser is not None else (*choices, DrafterChoice())[0],
            resume=resume,
            correction_top_k=self._correction_top_k(tenant, choices),
            logprobs=raw.logprobs,
            shadows=self._shadows(choices) if chooser is not None else (),
            keeps_text=self._config.keeps_text(tenant.name, [choice.name for choice in choices if choice.name]),
        )
        return request, chooser

    def _chooser(self, choices: Sequence[DrafterChoice], language: str, task: str) -> DrafterChooser | None:
        """None where there is nothing to choose."""
        if len(choices) < 2:
            return None
        return DrafterChooser(choices, self._arm_records, language, task, self._detect)

    def _shadows(self, choices: Sequence[DrafterChoice]) -> tuple[str, ...]:
        """Those that may be scored on every answer."""
        drafters = self._config.drafters
        return tuple(choice.name for choice in choices if choice.name and drafters[choice.name].costs_nothing)

    def _correction_top_k(self, tenant: Tenant, choices: Sequence[DrafterChoice]) -> int:
        """Drafters learn from tenants that allow it, and only those of a tier."""
        names = [choice.name for choice in choices if choice.name is not None]
        learns = any(tenant.name in self._config.adapting_tenants_of(name) for name in names)
        return self._config.adaptation.top_k if learns else 0

    def _detect(self, text: str) -> str | None:
        found = self._detector.detect(text)
        return found.language if found is not None else None

    async def _encode(self, content: str | list[ChatTurn], num_characters: int) -> tuple[int, ...]:
        if num_characters < _LARGE_CONTENT:
            return checks.encode(content, self._tokenizer, self._facts.max_context)
        return await asyncio.to_thread(checks.encode, content, self._tokenizer, self._facts.max_context)

    def _check_numerics(self, numerics_id: str) -> None:
        """Refuse at once what no replica that is up can go on with."""
        targets = self._fleet.targets()
        if targets and all(peer.load.numerics_id != numerics_id for peer in targets):
            raise TargetChanged("resume.numerics_id: no target replica has it any more; begin the answer again")
