"""What may stand in labels: names from the configuration. Whatever callers send, there are only so many series."""

from __future__ import annotations

from cluster.config import Config
from cluster.routing import OFF, UNKNOWN_LANGUAGE

OTHER = "other"
MAX_NAMES = 200
"""Tenants come and go with their file; those that come after so many are counted together."""
MAX_OFFSET = 16
"""Deeper nodes of drafts are counted together."""


class Names:
    """Names that come one by one from a configuration that this process does not have; so many are told apart."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        if len(self._known) < MAX_NAMES:
            self._known.add(name)
        return name if name in self._known else OTHER


class Labels:
    """Label values of one process."""

    def __init__(self, config: Config) -> None:
        self._languages = frozenset({*config.known_languages, UNKNOWN_LANGUAGE})
        self._drafters = frozenset({*config.drafters, OFF})
        self._tenants: set[str] = set()
        self.use_tenants(config)

    def use_tenants(self, config: Config) -> None:
        """The tenants have changed. Those that were known before stay known: their series are there."""
        for name in config.all_tenants:
            if len(self._tenants) < MAX_NAMES:
                self._tenants.add(name)

    def tenant(self, name: str) -> str:
        return name if name in self._tenants else OTHER

    def language(self, tag: str) -> str:
        return tag if tag in self._languages else OTHER

    def drafter(self, name: str | None) -> str:
        name = name or OFF
        return name if name in self._drafters else OTHER

    @property
    def tenants(self) -> tuple[str, ...]:
        return tuple(sorted(self._tenants))


def offset_label(offset: int) -> str:
    """Of a node's depth in its draft, from 1."""
    return str(offset) if offset <= MAX_OFFSET else f"over {MAX_OFFSET}"
