"""Which language a request is in, which drafters may serve it, and which target replica takes its session."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.config import Config
from cluster.drafter_config import Placement
from cluster.errors import UnknownDrafter, UnsupportedLanguage
from cluster.request import DrafterChoice, RawRequest
from cluster.tenants import Tenant

UNKNOWN_LANGUAGE = "und"
AUTO, OFF = "auto", "off"
_TAG = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*")


@dataclass(frozen=True, slots=True)
class TargetLoad:
    """How busy a target replica is, as its last heartbeat told, and what was sent there since."""

    replica_id: str
    numerics_id: str
    free_pages: int
    queue_length: int
    num_sessions: int
    num_opened_since: int = 0
    is_plain: bool = False
    """It asks for no drafts at present."""


def choose_language(raw: RawRequest, tenant: Tenant, config: Config, detect: Callable[[], str | None]) -> str:
    """The request's own tag, else what `detect` finds, else the tenant's default, else "und"."""
    allowed = config.known_languages if tenant.config.languages is None else tenant.config.languages
    if raw.language:
        if not _TAG.fullmatch(raw.language):
            raise UnsupportedLanguage(
                f"language: {raw.language[:40]!r} is not a language tag; served: {_listed(allowed)}"
            )
        tag = re.split("[-_]", raw.language, maxsplit=1)[0].lower()
        if tag not in allowed:
            raise UnsupportedLanguage(f"language: '{raw.language[:40]}' is not served; served: {_listed(allowed)}")
        return tag
    detected = detect()
    if detected is not None and detected in allowed:
        return detected
    return tenant.config.default_language or UNKNOWN_LANGUAGE


def drafters_for(raw: RawRequest, language: str, tenant: Tenant, config: Config) -> tuple[DrafterChoice, ...]:
    """The drafter that the request names, or for "auto" those of its language that its tenant may use."""
    allowed = [*config.drafters] if tenant.config.drafters is None else [*tenant.config.drafters]
    wanted = raw.speculation or config.cluster.default_speculation
    if wanted == OFF:
        return ()
    if wanted == AUTO:
        names = [name for name in config.drafters_of_language.get(language, ()) if name in allowed]
        return tuple(_choice(name, raw, config) for name in names)
    if wanted not in allowed:
        raise UnknownDrafter(f"speculation: found {wanted[:40]!r}; give 'auto', 'off' or one of {_listed(allowed)}")
    return (_choice(wanted, raw, config),)


def _choice(name: str, raw: RawRequest, config: Config) -> DrafterChoice:
    drafter = config.drafters[name]
    longest = min(drafter.max_draft_tokens, raw.max_draft_tokens or drafter.max_draft_tokens)
    return DrafterChoice(name, drafter.placement is Placement.TARGET, longest)


def choose_target(candidates: Sequence[TargetLoad], pages_needed: int) -> TargetLoad | None:
    """The replica with the most room once what waits there, and what was just sent there, is served.

    Free pages alone would send a burst to one replica, since they are told once a second: every waiting or newly sent
    session is counted as if it needed as many pages as this one.
    """
    if not candidates:
        return None

    def room(load: TargetLoad) -> tuple[int, int, str]:
        waiting = load.queue_length + load.num_opened_since
        return load.free_pages - pages_needed * waiting, -(load.num_sessions + load.num_opened_since), load.replica_id

    return max(candidates, key=room)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
