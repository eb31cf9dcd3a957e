"""Several drafters behind the interface of one: each session stays with the one that it was opened with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from engine.drafters.base import Drafter, DraftSession, DraftVerdict, DraftWork
from engine.tree import TokenTree

Item = TypeVar("Item")


class DispatchingDrafter:
    """Sends each session to the drafter that `choose` names; to none, if there is none of that name."""

    def __init__(self, drafters: Mapping[str, Drafter], choose: Callable[[DraftSession], str]) -> None:
        """All drafters of the same placement and law."""
        some = next(iter(drafters.values()))
        self.placement, self.law = some.placement, some.law
        self._drafters = dict(drafters)
        self._choose = choose
        self._name_of: dict[int, str] = {}
        """Of open sessions that a drafter has."""

    def open(self, sessions: Sequence[DraftSession]) -> None:
        for session in sessions:
            name = self._choose(session)
            if name in self._drafters:
                self._name_of[session.id] = name
        for name, of_drafter in self._dealt(sessions, lambda session: session.id).items():
            self._drafters[name].open(of_drafter)

    def propose(self, work: Sequence[DraftWork]) -> list[TokenTree]:
        trees: dict[int, TokenTree] = {}
        for name, of_drafter in self._dealt(work, lambda item: item.session_id).items():
            proposed = self._drafters[name].propose(of_drafter)
            trees |= {item.session_id: tree for item, tree in zip(of_drafter, proposed, strict=True)}
        return [trees.get(item.session_id, TokenTree()) for item in work]

    def observe(self, verdicts: Sequence[DraftVerdict]) -> None:
        for name, of_drafter in self._dealt(verdicts, lambda verdict: verdict.session_id).items():
            self._drafters[name].observe(of_drafter)

    def prepare(self) -> bool:
        return any(drafter.prepare() for drafter in self._drafters.values())

    def close(self, session_ids: Sequence[int]) -> None:
        for name, of_drafter in self._dealt(session_ids, lambda session_id: session_id).items():
            self._drafters[name].close(of_drafter)
        for session_id in session_ids:
            self._name_of.pop(session_id, None)

    def _dealt(self, items: Sequence[Item], session_id: Callable[[Item], int]) -> dict[str, list[Item]]:
        dealt: dict[str, list[Item]] = {}
        for item in items:
            name = self._name_of.get(session_id(item))
            if name is not None:
                dealt.setdefault(name, []).append(item)
        return dealt


def by_language(drafters: Mapping[str, Drafter]) -> DispatchingDrafter:
    """A drafter for each language; sessions of others get empty blocks."""
    return DispatchingDrafter(drafters, lambda session: session.language)
