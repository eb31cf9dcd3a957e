"""Several weights of one drafter side by side: each session stays with those that it was opened with."""

from __future__ import annotations

from collections.abc import Collection

from engine.drafters.base import Drafter, DraftSession
from engine.drafters.dispatch import DispatchingDrafter


class VersionedDrafter(DispatchingDrafter):
    """A drafter made of drafters, each with its own caches; "" names the base, which is always there."""

    def __init__(self, base: Drafter) -> None:
        super().__init__({"": base}, self._loaded)

    def _loaded(self, session: DraftSession) -> str:
        """Sessions of a version that is not there get the base."""
        return session.version if session.version in self._drafters else ""

    @property
    def versions(self) -> list[str]:
        """Those that are loaded, the base's left out."""
        return [version for version in self._drafters if version]

    def add(self, version: str, drafter: Drafter) -> None:
        """Sessions may be opened with `version` from now on."""
        self._drafters[version] = drafter

    def keep(self, versions: Collection[str]) -> None:
        """Let go of all others that no session is open with."""
        needed = {"", *versions, *self._name_of.values()}
        self._drafters = {version: drafter for version, drafter in self._drafters.items() if version in needed}
