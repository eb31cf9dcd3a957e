"""What a drafter replica knows of versions: which weights a tenant's sessions get, and what it tells the trainer.

Sessions of tenants that adapt are followed to their end and sent to the trainer; its answer names each tenant's current
version. A new one is loaded beside the others, and sessions opened from then on get it. A trainer that does not answer
changes nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cluster.messages import Observe, Open
from deployments.corrections import correction_from_bytes
from engine.corrections import Correction
from engine.drafters import Drafter
from engine.drafters.versioned import VersionedDrafter
from training.online.replay import Transcript

logger = logging.getLogger(__name__)

EXCHANGE_S = 1.0
MAX_WAITING = 1_024
"""Answers kept for the trainer; further ones are dropped and counted."""

Transcripts = Mapping[str, list[Transcript]]
"""By tenant."""


class TrainerLink(Protocol):
    """The trainer as a replica sees it."""

    async def exchange(self, transcripts: Transcripts) -> Mapping[str, int] | None:
        """Hand answers over; each tenant's current version. None while the trainer is away."""


@dataclass(slots=True)
class _Followed:
    """An open session of a tenant that adapts."""

    tenant: str
    version: str
    prompt_length: int
    token_ids: list[int]
    corrections: list[Correction] = field(default_factory=list)
    is_broken: bool = False
    """Whether something of it is missing here."""


class DraftVersions:
    """All methods run on the event loop."""

    def __init__(
        self,
        name: str,
        tenants: Collection[str],
        drafter: VersionedDrafter,
        load: Callable[[str, int], Drafter],
        trainer: TrainerLink,
        vocab_size: int,
    ) -> None:
        """`load(tenant, number)` runs outside the event loop; it may raise ValueError and OSError."""
        self._name = name
        self._drafter = drafter
        self._load = load
        self._trainer = trainer
        self._vocab_size = vocab_size
        self.current = dict.fromkeys(tenants, 0)
        """By tenant, the version that its new sessions get."""
        self._followed: dict[int, _Followed] = {}
        self._waiting: dict[str, list[Transcript]] = {}
        self._num_waiting = 0
        self.num_dropped = 0
        """Answers that never reached the trainer."""

    def open(self, session_id: int, request: Open) -> str:
        """Follow the session if its tenant adapts; the version that it drafts with, "" for the base."""
        number = self.current.get(request.tenant)
        if number is None:
            return ""
        version = _key(request.tenant, number)
        self._followed[session_id] = _Followed(request.tenant, version, request.prompt_length, list(request.token_ids))
        return version

    def observe(self, session_id: int, observed: Observe) -> None:
        followed = self._followed.get(session_id)
        if followed is None:
            return
        followed.is_broken |= observed.base_length != len(followed.token_ids)
        followed.token_ids += observed.token_ids
        correction = correction_from_bytes(observed.correction, self._vocab_size)
        if correction is not None and followed.prompt_length <= correction.position <= len(followed.token_ids):
            followed.corrections.append(correction)

    def close(self, session_id: int) -> None:
        """The session is over: what was seen of it is for the trainer."""
        followed = self._followed.pop(session_id, None)
        if followed is None or followed.is_broken or len(followed.token_ids) <= followed.prompt_length:
            return
        if self._num_waiting == MAX_WAITING:
            self.num_dropped += 1
            return
        transcript = Transcript(tuple(followed.token_ids), followed.prompt_length, tuple(followed.corrections))
        self._waiting.setdefault(followed.tenant, []).append(transcript)
        self._num_waiting += 1

    async def follow(self) -> None:
        """Exchange with the trainer until cancelled."""
        while True:
            await asyncio.sleep(EXCHANGE_S)
            await self.exchange()

    async def exchange(self) -> None:
        """Hand over what waits, then get the versions that are current and let go of those that nobody needs."""
        transcripts, num_sent = self._waiting, self._num_waiting
        self._waiting, self._num_waiting = {}, 0
        current = await self._trainer.exchange(transcripts)
        if current is None:
            self.num_dropped += num_sent
            return
        for tenant, number in current.items():
            if tenant in self.current and number != self.current[tenant]:
                await self._switch(tenant, number)
        in_use = {_key(tenant, number) for tenant, number in self.current.items()}
        self._drafter.keep(in_use | {followed.version for followed in self._followed.values()})

    async def _switch(self, tenant: str, number: int) -> None:
        """Sessions of the tenant get this version from now on; open ones keep theirs."""
        version = _key(tenant, number)
        if version and version not in self._drafter.versions:
            try:
                self._drafter.add(version, await asyncio.to_thread(self._load, tenant, number))
            except (ValueError, OSError) as error:
                logger.warning("version %s cannot be loaded, %d stays: %s", version, self.current[tenant], error)
                return
        self.current[tenant] = number
        logger.info("drafter %s serves %s with version %d", self._name, tenant, number)


def _key(tenant: str, number: int) -> str:
    """Names a version among the drafter's; "" is the base."""
    return f"{tenant}.{number}" if number else ""


def version_name(drafter: str, version: str) -> str:
    """As answers tell it: `de@0` is the base, `de@acme.3` the third version of tenant acme."""
    return f"{drafter}@{version or 0}"
