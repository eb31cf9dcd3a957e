"""Several weights of one drafter side by side: each session stays with those that it was opened with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from engine.drafters.base import Drafter, DraftSession, DraftVerdict, DraftWork
from engine.tree import TokenTree

Item = TypeVar("Item")


class VersionedDrafter:
    """A drafter made of drafters, each with its own caches; "" names the base, which is always there."""

    def __init__(self, base: Drafter) -> None:
        self.placement, self.law = base.placement, base.law
        self._drafters: dict[str, Drafter] = {"": base}
        self._version_of: dict[int, str] = {}

    @property
    def versions(self) -> list[str]:
        """Those that are loaded, the base's left out."""
        return [version for version in self._drafters if version]

    def add(self, version: str, drafter: Drafter) -> None:
        """Sessions may be opened with `version` from now on."""
        self._drafters[version] = drafter

    def keep(self, versions: Collection[str]) -> None:
        """Let go of all others that no session is open with."""
        needed = {"", *versions, *self._version_of.values()}
        self._drafters = {version: drafter for version, drafter in self._drafters.items() if version in needed}

    def open(self, sessions: Sequence[DraftSession]) -> None:
        """Sessions of a version that is not there get the base."""
        for session in sessions:
            self._version_of[session.id] = session.version if session.version in self._drafters else ""
        for version, of_version in self._by_version(sessions, lambda session: session.id).items():
            self._drafters[version].open(of_version)

    def propose(self, work: Sequence[DraftWork]) -> list[TokenTree]:
        trees: dict[int, TokenTree] = {}
        for version, of_version in self._by_version(work, lambda item: item.session_id).items():
            proposed = self._drafters[version].propose(of_version)
            trees |= {item.session_id: tree for item, tree in zip(of_version, proposed, strict=True)}
        return [trees[item.session_id] for item in work]

    def observe(self, verdicts: Sequence[DraftVerdict]) -> None:
        for version, of_version in self._by_version(verdicts, lambda verdict: verdict.session_id).items():
            self._drafters[version].observe(of_version)

    def prepare(self) -> bool:
        return any(drafter.prepare() for drafter in self._drafters.values())

    def close(self, session_ids: Sequence[int]) -> None:
        known = [session_id for session_id in session_ids if session_id in self._version_of]
        for version, of_version in self._by_version(known, lambda session_id: session_id).items():
            self._drafters[version].close(of_version)
        for session_id in known:
            del self._version_of[session_id]

    def _by_version(self, items: Sequence[Item], session_id: Callable[[Item], int]) -> dict[str, list[Item]]:
        grouped: dict[str, list[Item]] = {}
        for item in items:
            grouped.setdefault(self._version_of[session_id(item)], []).append(item)
        return grouped
